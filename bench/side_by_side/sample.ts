/**
 * The result of one run, and the measuring code that the contenders in Deno share.
 */

/** One run in a separate process, with a fresh destination. */
export interface Sample {
  /** Seconds from naming the files to the last byte. */
  readonly seconds: number;
  /** The most resident memory that the process ever had, in bytes, without the destination. */
  readonly beyondDestination?: number;
  /** The longest time that the event loop was not served, in milliseconds. */
  readonly stall?: number;
  /** The loader's path. */
  readonly path?: string | null;
  /** Lanes of the loader. */
  readonly threads?: number;
}

/** The environment variable with the command that every contender runs right before its clock starts. */
export const TOUCH = "FASTSAFETENSORS_BENCH_TOUCH";

/** Touches memory that the host may have reclaimed: the last step before the clock starts. */
export function touchMemory(): void {
  const command = Deno.env.get(TOUCH);
  if (command === undefined) return;
  const { success } = new Deno.Command("sh", { args: ["-c", command] }).outputSync();
  if (!success) throw new Error(`Cannot run "${command}"`);
}

/** The most resident memory that this process ever had, in bytes. */
export function peakMemory(): number {
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(Deno.readTextFileSync("/proc/self/status"))![1]) * 1024;
}

/** Measures the longest stall of the event loop, from now until the call of the result. */
export class StallWatch {
  #longest = 0;
  #last = performance.now();
  readonly #timer = setInterval(() => this.#tick(), 1);

  /** The longest time between two turns, in milliseconds, minus the usual millisecond between them. */
  stop(): number {
    this.#tick();
    clearInterval(this.#timer);
    return Math.max(0, this.#longest - 1);
  }

  #tick(): void {
    const now = performance.now();
    this.#longest = Math.max(this.#longest, now - this.#last);
    this.#last = now;
  }
}
