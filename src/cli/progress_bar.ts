/**
 * A progress bar for terminals: one line on stderr that is redrawn, and cleared at the end.
 */
import { Pace } from "./pace.ts";
import { canRedraw, terminalColumns } from "./terminal.ts";
import { formatBytes, formatDuration, formatRate } from "./text.ts";

/** The shortest time between two drawings, in milliseconds. */
const INTERVAL = 50;

/** Characters of the bar at most, and at least. */
const WIDEST = 40, NARROWEST = 5;

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
  const rate = pace.bytesPerSecond, left = pace.secondsLeft(totalBytes);
  const amount = `${formatBytes(bytes)} of ${formatBytes(totalBytes)}`;
  const withRate = rate > 0 ? `${amount}, ${formatRate(rate / 1e9)}` : amount;
  const whole = left === null ? withRate : `${withRate}, ${formatDuration(left)} left`;
  const free = columns - 1; // a full line would wrap
  const width = Math.min(WIDEST, free - `${label}  ${whole}`.length);
  if (width >= NARROWEST) {
    const part = totalBytes === 0 ? 1 : Math.min(1, bytes / totalBytes);
    return `${label} ${"█".repeat(Math.round(part * width)).padEnd(width, "░")} ${whole}`;
  }
  const lines = [
    `${label} ${whole}`,
    `${label} ${withRate}`,
    `${label} ${amount}`,
    amount,
    formatBytes(bytes),
  ];
  return lines.find((line) => line.length <= free) ?? "";
}
