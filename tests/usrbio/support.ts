/**
 * What the tests of 3FS share: the stand-in of tests/sim/3fs over a folder. Call {@linkcode use3fs} at the top of a test
 * file, before any test.
 */
import { assert, assertEquals } from "@std/assert";
import { buildShim, cacheFolder } from "../../ffi/build.ts";
import { openLibrary, useLibrary } from "../../ffi/library.ts";
import type { Shim } from "../../ffi/symbols.ts";
import { selectEngine } from "../../src/lanes/select.ts";
import { openUsrbio } from "../../src/usrbio/backend.ts";
import { compiler } from "../support/compiler.ts";
import { tempFolder } from "../support/models.ts";
import { openDescriptors } from "../support/process.ts";
import { suite } from "../support/skip.ts";

const SIM = new URL("../sim/3fs/", import.meta.url).pathname;
const LIBRARY = "libhf3fs_api_shared.so";

/** Builds the stand-in, once for each version of its sources, and returns the folder. */
export async function buildStandIn(): Promise<string> {
  const names = [...Deno.readDirSync(SIM)].map(({ name }) => name).sort();
  const texts = await Promise.all(names.map((name) => Deno.readTextFile(`${SIM}${name}`)));
  const recipe = new TextEncoder().encode(JSON.stringify([names, texts]));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", recipe)).toHex().slice(0, 24);
  const folder = `${cacheFolder()}/3fs-stand-in-${digest}`;
  await Deno.mkdir(cacheFolder(), { recursive: true });
  using lock = await Deno.open(`${folder}.lock`, { create: true, write: true });
  await lock.lock(true);
  if (await Deno.stat(folder).catch(() => null)) return folder;
  const work = await Deno.makeTempDir({ dir: cacheFolder(), prefix: "build-" });
  const { success, stderr } = await new Deno.Command("sh", { args: [`${SIM}build.sh`, work] }).output();
  if (!success) throw new Error(`Cannot build the stand-in for 3FS:\n${new TextDecoder().decode(stderr)}`);
  await Deno.rename(work, folder);
  return folder;
}

/** The environment of a process for which a folder is a mount of 3FS. */
export function standInEnv(folder: string, mount: string): Record<string, string> {
  return { HF3FS_LIB_DIR: folder, FST_SIM_3FS_MOUNT: mount };
}

/** Makes a folder into what the stand-in takes for a mount. */
export async function makeMount(path: string): Promise<void> {
  await Deno.mkdir(`${path}/3fs-virt/iovs`, { recursive: true });
}

const SYMBOLS = {
  fst_sim_3fs_report: { parameters: ["buffer", "usize"], result: "i32" },
  fst_sim_3fs_fail: { parameters: ["buffer"], result: "i32" },
  fst_sim_3fs_reset: { parameters: [], result: "void" },
} as const satisfies Deno.ForeignLibraryInterface;

/** What the stand-in has seen since the last reset (tests/sim/3fs/sim.h). */
export interface Report {
  readonly live: Readonly<Record<"total" | "iovs" | "rings" | "reads" | "fds", number>>;
  readonly counts: Readonly<
    Record<"reads" | "bytes" | "mostInFlight" | "outOfOrder" | "rings" | "abandoned" | "injected", number>
  >;
  readonly violations: { readonly total: number; readonly kinds: Readonly<Record<string, unknown>> };
}

/** The stand-in in use. */
export class StandIn {
  /** The folder that it was built to. */
  readonly folder: string;
  /** The folder that it takes for a mount. */
  readonly mount: string;
  readonly #library: Deno.DynamicLibrary<typeof SYMBOLS>;

  constructor(folder: string, mount: string) {
    this.folder = folder;
    this.mount = mount;
    this.#library = Deno.dlopen(`${folder}/${LIBRARY}`, SYMBOLS);
  }

  /** What has been seen. */
  report(): Report {
    const bytes = new Uint8Array(65536);
    const length = this.#library.symbols.fst_sim_3fs_report(bytes, BigInt(bytes.byteLength));
    return JSON.parse(new TextDecoder().decode(bytes.subarray(0, length)));
  }

  /** Makes calls fail (`fst_sim_3fs_fail`); all is well again once the result is disposed. */
  fail(spec: string): Disposable {
    const set = (text: string) => {
      const status = this.#library.symbols.fst_sim_3fs_fail(new TextEncoder().encode(`${text}\0`));
      if (status !== 0) throw new Error(`Cannot set failures "${text}"`);
    };
    set(spec);
    return { [Symbol.dispose]: () => set("") };
  }

  /** Sets environment variables, and has the stand-in read them; as before once the result is disposed. */
  set(variables: Readonly<Record<string, string>>): Disposable {
    const restore = setEnv(variables);
    this.reset();
    return {
      [Symbol.dispose]: () => {
        restore();
        this.reset();
      },
    };
  }

  /** Forgets what was seen, and every failure. */
  reset(): void {
    this.#library.symbols.fst_sim_3fs_reset();
  }
}

/** Sets environment variables; call the result to set them back. */
export function setEnv(variables: Readonly<Record<string, string | undefined>>): () => void {
  const put = (values: Iterable<readonly [string, string | undefined]>) => {
    for (const [name, value] of values) {
      if (value === undefined) Deno.env.delete(name);
      else Deno.env.set(name, value);
    }
  };
  const before = Object.keys(variables).map((name) => [name, Deno.env.get(name)] as const);
  put(Object.entries(variables));
  return () => put(before);
}

/** What stands for a mount in /dev/shm: the library's memory, and this package's records of it. */
export function sharedMemory(mount: string): string[] {
  const links = [...Deno.readDirSync(`${mount}/3fs-virt/iovs`)];
  const memory = links.map(({ name }) => Deno.readLinkSync(`${mount}/3fs-virt/iovs/${name}`));
  const records = [...Deno.readDirSync("/dev/shm")].filter(({ name }) =>
    name.startsWith("fastsafetensors-iov-")
  )
    .map(({ name }) => `/dev/shm/${name}`).filter((path) => Deno.readTextFileSync(path).includes(mount));
  return [...memory, ...records].sort();
}

/** Where the tests run. */
export interface Machine {
  /** Why they cannot; null where they can. */
  readonly missing: string | null;
  readonly standIn: StandIn;
  readonly shim: Shim;
}

/**
 * Has the stand-in take a folder for a mount, for the tests of this file. The shim is the one that is in use, or a build
 * of its own, which no test of another file has opened.
 */
export async function use3fs(inUse?: Shim): Promise<Machine> {
  const { missing } = await compiler();
  if (missing) return { missing, standIn: null!, shim: null! };
  const folder = await buildStandIn();
  const mount = await Deno.realPath(await Deno.makeTempDir({ prefix: "fastsafetensors-3fs-" }));
  await makeMount(mount);
  const restore = setEnv({ ...standInEnv(folder, mount), FASTSAFETENSORS_BACKEND: undefined });
  globalThis.addEventListener("unload", () => {
    restore();
    Deno.removeSync(mount, { recursive: true });
  });
  if (!inUse) useLibrary(await buildShim({ flags: ["-DFST_FAULTS", "-DFST_TEST_3FS"] }));
  const shim = inUse ?? (await openLibrary()).shim!;
  await selectEngine();
  await openUsrbio(shim);
  const standIn = new StandIn(folder, mount);
  standIn.reset();
  return { missing, standIn, shim };
}

/** Defines a test that is given a folder of its own on the mount, and must leave nothing. */
export type UsrbioTest = (name: string, body: (folder: string) => Promise<void> | void) => void;

/** What a test may leave, where what it does cannot be undone. */
export interface Leftovers {
  /** Reads that never came back. */
  readonly abandoned?: boolean;
  /** Descriptors that the library would not let go of, as its mount was gone: at most so many. */
  readonly fds?: number;
}

/** Fails if anything is left on the stand-in, or was done that 3FS would not have borne. */
export function assertNothingLeft(standIn: StandIn, leftovers: Leftovers = {}): void {
  const { live, counts, violations } = standIn.report();
  standIn.reset();
  const fds = Math.min(live.fds, leftovers.fds ?? 0);
  assertEquals([live, violations], [
    { total: fds, iovs: 0, rings: 0, reads: 0, fds },
    { total: 0, kinds: {} },
  ]);
  if (!leftovers.abandoned) assertEquals(counts.abandoned, 0, "reads that were not waited for");
  assertEquals(sharedMemory(standIn.mount), [], "in /dev/shm");
}

/** Defines tests that run on the stand-in. */
export function usrbioSuite(
  name: string,
  machine: Machine,
  define: (
    test: (name: string, body: (folder: string) => Promise<void> | void, leftovers?: Leftovers) => void,
    standIn: StandIn,
  ) => void,
): void {
  suite(name, "native", machine.missing, () => {
    const { standIn } = machine;
    define((title, body, leftovers) =>
      Deno.test(`${title} [3FS stand-in]`, async () => {
        await using folder = await tempFolder(standIn.mount);
        await body(folder.path);
        const left = openDescriptors(folder.path);
        assert(left <= (leftovers?.fds ?? 0), `${left} descriptors of the test's files are still open`);
        assertNothingLeft(standIn, leftovers);
      }), standIn);
  });
}
