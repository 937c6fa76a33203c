/**
 * The stand-ins of tests/sim: built once for each version of their sources, and told what to do.
 */
import { cacheFolder } from "../../ffi/build.ts";
import { compiler, missingCxx } from "./compiler.ts";
import { setEnv } from "./environment.ts";

const SIM = new URL("../sim/", import.meta.url).pathname;
const KERNELS = ["cuda/kernels/cast.cu", "cast/convert.h", "cast/cast.h"].map((name) =>
  new URL(`../../native/${name}`, import.meta.url).pathname
);

/**
 * Builds the stand-in of a folder in tests/sim; where it is, or why it cannot be built here.
 *
 * @param flags of the compiler, such as `-fsanitize=thread`
 * @throws {Error} if there are compilers and they refuse the sources
 */
export async function buildStandIn(
  name: "3fs" | "cuda" | "mpi" | "nccl",
  flags: readonly string[] = [],
): Promise<{ folder: string; missing: string | null }> {
  const missing = (await compiler()).missing ?? (name === "cuda" ? missingCxx() : null);
  if (missing) return { folder: "", missing };
  const folder = `${cacheFolder()}/stand-in-${name}-${await digestOfSources(flags)}`;
  await Deno.mkdir(cacheFolder(), { recursive: true });
  using lock = await Deno.open(`${folder}.lock`, { create: true, write: true });
  await lock.lock(true);
  if (await Deno.stat(folder).catch(() => null)) return { folder, missing: null };
  const work = await Deno.makeTempDir({ dir: cacheFolder(), prefix: "build-" });
  const { success, stderr } = await new Deno.Command("sh", {
    args: [`${SIM}${name}/build.sh`, work, ...flags],
  }).output();
  const printed = new TextDecoder().decode(stderr);
  if (!success) throw new Error(`Cannot build the stand-in tests/sim/${name}:\n${printed}`);
  await Deno.rename(work, folder);
  return { folder, missing: null };
}

async function digestOfSources(flags: readonly string[]): Promise<string> {
  const folders = Deno.readDirSync(SIM).map(({ name }) => `${SIM}${name}`);
  const files = folders.flatMap((folder) => Deno.readDirSync(folder).map(({ name }) => `${folder}/${name}`));
  const paths = [...files, ...KERNELS].sort();
  const texts = await Promise.all(paths.map((path) => Deno.readTextFile(path)));
  const recipe = new TextEncoder().encode(JSON.stringify([paths, texts, flags]));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", recipe)).toHex().slice(0, 24);
}

/** What every stand-in tells of what its user must not do. */
export interface Violations {
  readonly total: number;
  readonly kinds: Readonly<Record<string, unknown>>;
}

/** A stand-in that is open in this process, with a report of its own kind. */
export class StandInLibrary<R> {
  readonly #library;

  /** @param prefix what the names of its functions for tests begin with, such as "fst_sim" */
  constructor(path: string, prefix: string) {
    this.#library = Deno.dlopen(path, {
      report: { name: `${prefix}_report`, parameters: ["buffer", "usize"], result: "i32" },
      fail: { name: `${prefix}_fail`, parameters: ["buffer"], result: "i32" },
      reset: { name: `${prefix}_reset`, parameters: [], result: "void" },
    });
  }

  /** What has been seen since the last reset. */
  report(): R {
    const bytes = new Uint8Array(65536);
    const length = this.#library.symbols.report(bytes, BigInt(bytes.byteLength));
    return JSON.parse(new TextDecoder().decode(bytes.subarray(0, length)));
  }

  /** Makes calls fail, as sim.h of the stand-in says; all is well again once the result is disposed. */
  fail(spec: string): Disposable {
    this.#fail(spec);
    return { [Symbol.dispose]: () => this.#fail("") };
  }

  /** Sets environment variables, and has the stand-in read them; as before once the result is disposed. */
  set(variables: Readonly<Record<string, string>>): Disposable {
    const environment = setEnv(variables);
    this.reset();
    return {
      [Symbol.dispose]: () => {
        environment[Symbol.dispose]();
        this.reset();
      },
    };
  }

  /** Forgets what was seen, and every failure. */
  reset(): void {
    this.#library.symbols.reset();
  }

  #fail(spec: string): void {
    const status = this.#library.symbols.fail(new TextEncoder().encode(`${spec}\0`));
    if (status !== 0) throw new Error(`Cannot set failures "${spec}"`);
  }
}
