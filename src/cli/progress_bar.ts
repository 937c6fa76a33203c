/**
 * A progress bar for terminals: one line on stderr that is redrawn, and cleared at the end.
 */
import { Pace } from "./pace.ts";
import { canRedraw, terminalColumns } from "./terminal.ts";
import { formatBytes, formatDuration, formatRate } from "./text.ts";

/** The shortest time between two drawings, in milliseconds. */
const INTERVAL = 50;

/** Characters of the bar at most. */
const WIDTH = 40;

const CLEAR = "\r\x1b[K";

/** Shows the bytes done, the rate and the remaining time; draws nothing if stderr is not a terminal. */
export class ProgressBar implements Disposable {
  readonly #label: string;
  readonly #shown: boolean;
  readonly #pace = new Pace(performance.now());
  #drawnAt = -Infinity;

  /** @param options.quiet never draws */
  constructor(label: string, options: { quiet?: boolean } = {}) {
    this.#label = label;
    this.#shown = !options.quiet && canRedraw();
  }

  /** Draws the progress. */
  update(bytes: number, totalBytes: number): void {
    const now = performance.now();
    if (!this.#shown || now - this.#drawnAt < INTERVAL) return;
    this.#drawnAt = now;
    this.#pace.add(now, bytes);
    const line = drawProgress(this.#label, bytes, totalBytes, this.#pace, terminalColumns());
    this.#write(CLEAR + line);
  }

  /** Clears the line. */
  [Symbol.dispose](): void {
    if (this.#drawnAt === -Infinity) return;
    this.#drawnAt = -Infinity;
    this.#write(CLEAR);
  }

  #write(text: string): void {
    Deno.stderr.writeSync(new TextEncoder().encode(text));
  }
}

/** The line of a progress bar. Parts that do not fit in the columns are left out, the bar first. */
export function drawProgress(
  label: string,
  bytes: number,
  totalBytes: number,
  pace: Pace,
  columns: number,
): string {
  const left = pace.secondsLeft(totalBytes);
  const speed = left === null
    ? ""
    : `, ${formatRate(pace.bytesPerSecond / 1e9)}, ${formatDuration(left)} left`;
  const text = ` ${formatBytes(bytes)} of ${formatBytes(totalBytes)}${speed}`;
  const width = Math.max(0, Math.min(WIDTH, columns - label.length - text.length - 2));
  const part = totalBytes === 0 ? 1 : Math.min(1, bytes / totalBytes);
  const bar = "█".repeat(Math.round(part * width)).padEnd(width, "░");
  return `${label} ${bar}${text}`.slice(0, Math.max(0, columns - 1)); // a full line would wrap
}
