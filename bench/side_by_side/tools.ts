/**
 * The C programs of the benchmarks, built on demand into a folder of the run.
 */

/** The sources of the programs that {@linkcode Tools} builds. */
export const SOURCES = {
  limit: new URL("../limit/limit.c", import.meta.url).pathname,
  cast: new URL("../limit/cast.c", import.meta.url).pathname,
  columns: new URL("../limit/columns.c", import.meta.url).pathname,
  pageCache: new URL("./page_cache.c", import.meta.url).pathname,
  touchMemory: new URL("./touch_memory.c", import.meta.url).pathname,
};

/** The cached part of some files. */
export interface CacheState {
  /** Cached bytes; null if the system cannot report them (Linux before 6.5). */
  readonly cached: number | null;
  /** Bytes in all. */
  readonly total: number;
}

/** The built programs. */
export class Tools {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * Builds the programs.
   *
   * @throws {Error} if the C compiler is missing
   */
  static async build(folder: string): Promise<Tools> {
    for (const [name, source] of Object.entries(SOURCES)) await buildProgram(folder, name, source);
    return new Tools(folder);
  }

  /** Seconds that a limit probe takes for one turn; its source describes the arguments. */
  async time(probe: "limit" | "cast" | "columns", args: readonly string[]): Promise<number> {
    return Number(await output(`${this.#folder}/${probe}`, args));
  }

  /** The command that touches so many bytes of memory, so that a host returns them to the virtual machine. */
  touchCommand(bytes: number): string {
    return `${this.#folder}/touchMemory ${bytes}`;
  }

  /** Reports the cached part of the files, after dropping it or reading all of it. */
  async pageCache(action: "state" | "drop" | "warm", files: readonly string[]): Promise<CacheState> {
    const printed = await output(`${this.#folder}/pageCache`, [action, ...files]);
    const [cached, total] = printed.split(" ").map(Number) as [number, number];
    return { cached: cached < 0 ? null : cached, total };
  }
}

/** Programs that an archive of `deno task gpu-day --pack` has already built, for machines without a compiler. */
const BUILT = new URL("../built/", import.meta.url).pathname;

/**
 * Builds a program into a folder, or copies the built one; returns its path.
 *
 * @throws {Error} if there is neither a built one nor a C compiler
 */
export async function buildProgram(
  folder: string,
  name: string,
  source: string,
  flags: readonly string[] = [],
): Promise<string> {
  const path = `${folder}/${name}`;
  try {
    await Deno.copyFile(BUILT + name, path);
    return path;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  const strict = ["-std=gnu11", "-O3", "-Wall", "-Wextra", "-Werror"];
  await output("cc", [...strict, ...flags, "-o", path, source, "-lpthread", "-ldl"]);
  return path;
}

/**
 * Runs a program and returns its output.
 *
 * @throws {Deno.errors.NotFound} if it is not installed
 * @throws {Error} if it fails, with its output on stderr
 */
export async function output(command: string, args: readonly string[]): Promise<string> {
  const options: Deno.CommandOptions = {
    args: [...args],
    env: { NO_COLOR: "1" },
    stdout: "piped",
    stderr: "piped",
  };
  let outcome: Deno.CommandOutput;
  try {
    outcome = await new Deno.Command(command, options).output();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new Deno.errors.NotFound(`Cannot run "${command}": it is not installed`, { cause: error });
  }
  const { success, code, stdout, stderr } = outcome;
  const decoder = new TextDecoder();
  if (success) return decoder.decode(stdout).trim();
  const lines = decoder.decode(stderr).trim().split("\n");
  const complaint = lines.find((line) => /error/i.test(line)) ?? lines.at(-1);
  throw new Error(`Cannot run "${command} ${args[0]}": status ${code}: ${complaint}`);
}
