/**
 * The stand-ins of tests/sim: this builds them once for each version of their sources, and controls them.
 */
import { cacheFolder } from "../../ffi/build.ts";
import { compiler, missingCxx } from "./compiler.ts";
import { setEnv } from "./environment.ts";

const SIM = new URL("../sim/", import.meta.url).pathname;
const KERNELS = ["cuda/kernels/cast.cu", "cast/convert.h", "cast/cast.h"].map((name) =>
  new URL(`../../native/${name}`, import.meta.url).pathname
);

/**
 * Builds the stand-in of a folder in tests/sim; returns its path, or the reason that it cannot be built here.
 *
 * @param flags of the compiler, such as `-fsanitize=thread`
 * @throws {Error} if the compilers exist and reject the sources
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

/** The part of the record that all stand-ins share: violations of the library's rules. */
export interface Violations {
  readonly total: number;
  readonly kinds: Readonly<Record<string, unknown>>;
}

/** A stand-in that is open in this process, with its kind of record. */
export class StandInLibrary<R> {
  readonly #library;

  /** @param prefix the prefix of its functions for tests, such as "fst_sim" */
  constructor(path: string, prefix: string) {
    this.#library = Deno.dlopen(path, {
      report: { name: `${prefix}_report`, parameters: ["buffer", "usize"], result: "i32" },
      fail: { name: `${prefix}_fail`, parameters: ["buffer"], result: "i32" },
      reset: { name: `${prefix}_reset`, parameters: [], result: "void" },
    });
  }

  /** The record since the last reset. */
  report(): R {
    const bytes = new Uint8Array(65536);
    const length = this.#library.symbols.report(bytes, BigInt(bytes.byteLength));
    return JSON.parse(new TextDecoder().decode(bytes.subarray(0, length)));
  }

  /** Makes calls fail, by the syntax in the stand-in's sim.h; disposing the result ends that. */
  fail(spec: string): Disposable {
    this.#fail(spec);
    return { [Symbol.dispose]: () => this.#fail("") };
  }

  /** Sets environment variables for the stand-in; disposing the result restores them. */
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

  /** Clears the record and all failures. */
  reset(): void {
    this.#library.symbols.reset();
  }

  #fail(spec: string): void {
    const status = this.#library.symbols.fail(new TextEncoder().encode(`${spec}\0`));
    if (status !== 0) throw new Error(`Cannot set failures "${spec}"`);
  }
}
