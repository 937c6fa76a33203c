/**
 * Runs one combination: its processes start together in every turn.
 */
import { TextLineStream } from "./lines.ts";
import { type Combination, type Range, share, type Target } from "./sweep.ts";
import type { Task, Turn } from "./worker.ts";

/** One turn of a combination. */
export interface Sample extends Combination {
  /** From 1 on. */
  readonly iteration: number;
  readonly bytes: number;
  /** Seconds from the first process' start to the last one's end. */
  readonly seconds: number;
  /** `bytes / seconds / 1e9`. */
  readonly gigabytesPerSecond: number;
}

const WORKER = new URL("./worker.ts", import.meta.url).pathname;

class Worker implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: ReadableStreamDefaultReader<string>;

  constructor() {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--allow-all", "--quiet", WORKER],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.#lines = this.#child.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream())
      .getReader();
  }

  async tell(line: string): Promise<void> {
    await this.#input.write(new TextEncoder().encode(`${line}\n`));
  }

  /** The worker's next line. */
  async hear<T>(): Promise<T> {
    const { value } = await this.#lines.read();
    if (value !== undefined) return JSON.parse(value) as T;
    const printed = (await new Response(this.#child.stderr).text()).trim();
    throw new Error(`A process of the sweep ended: ${printed.split("\n")[0]}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close().catch(() => {});
    await this.#lines.cancel().catch(() => {});
    if (!this.#child.stderr.locked) await this.#child.stderr.cancel();
    await this.#child.status;
  }
}

/** Runs a combination so many times, after one warm-up turn. */
export async function runCombination(
  combination: Combination,
  files: readonly Range[],
  target: Target,
  iterations: number,
): Promise<Sample[]> {
  await using stack = new AsyncDisposableStack();
  const workers = share(files, combination.processes).map((ranges) => {
    const worker = stack.use(new Worker());
    const task: Task = { ...combination, target, ranges };
    return { worker, started: worker.tell(JSON.stringify(task)) };
  });
  await Promise.all(workers.map(async ({ worker, started }) => {
    await started.catch(() => {}); // the process has ended: reading its output reports the reason
    await worker.hear();
  }));
  const samples: Sample[] = [];
  for (let iteration = 0; iteration <= iterations; iteration++) {
    await Promise.all(workers.map(({ worker }) => worker.tell("go")));
    const turns = await Promise.all(workers.map(({ worker }) => worker.hear<Turn>()));
    if (iteration === 0) continue;
    const began = Math.min(...turns.map((turn) => turn.began));
    const ended = Math.max(...turns.map((turn) => turn.ended));
    const bytes = turns.reduce((sum, turn) => sum + turn.bytes, 0);
    const seconds = (ended - began) / 1000;
    samples.push({ ...combination, iteration, bytes, seconds, gigabytesPerSecond: bytes / seconds / 1e9 });
  }
  return samples;
}
