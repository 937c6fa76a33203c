/**
 * A progress bar for terminals: one line on stderr that is drawn again and again, and gone at the end.
 */
import { formatBytes } from "./text.ts";

/** Drawing more often only costs time. */
const INTERVAL = 50;

/** Shows how many bytes are through; draws nothing where stderr is not a terminal. */
export class ProgressBar implements Disposable {
  readonly #label: string;
  readonly #shown: boolean;
  #drawnAt = -Infinity;

  /** @param options.quiet draws nothing in any case */
  constructor(label: string, options: { quiet?: boolean } = {}) {
    this.#label = label;
    this.#shown = !options.quiet && Deno.stderr.isTerminal();
  }

  /** Draws how far it is. */
  update(bytes: number, totalBytes: number): void {
    const now = performance.now();
    if (!this.#shown || now - this.#drawnAt < INTERVAL) return;
    this.#drawnAt = now;
    const part = totalBytes === 0 ? 1 : Math.min(1, bytes / totalBytes);
    const text = ` ${formatBytes(bytes)} of ${formatBytes(totalBytes)}`;
    const width = Math.max(
      0,
      Math.min(40, Deno.consoleSize().columns - this.#label.length - text.length - 4),
    );
    const bar = "█".repeat(Math.round(part * width)).padEnd(width, "░");
    this.#write(`\r\x1b[K${this.#label} ${bar}${text}`);
  }

  /** Clears the line. */
  [Symbol.dispose](): void {
    if (this.#drawnAt !== -Infinity) this.#write("\r\x1b[K");
  }

  #write(text: string): void {
    Deno.stderr.writeSync(new TextEncoder().encode(text));
  }
}
