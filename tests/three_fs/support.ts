/**
 * Helpers of the 3FS tests: the stand-in of tests/sim/3fs over a folder. Call {@linkcode use3fs} at the top of a test
 * file, before any test.
 */
import { assert, assertEquals } from "@std/assert";
import { openLibrary, useLibrary } from "../../ffi/library.ts";
import type { Shim } from "../../ffi/symbols.ts";
import { selectEngine } from "../../src/load/native/select.ts";
import { openUsrbio } from "../../src/three_fs/backend.ts";
import { setEnv } from "../support/environment.ts";
import { tempFolder } from "../support/models.ts";
import { openDescriptors } from "../support/process.ts";
import { suite } from "../support/skip.ts";
import { buildStandIn, StandInLibrary, type Violations } from "../support/stand_in.ts";
import { buildTestShim } from "../support/test_library.ts";

/** The environment of a process for which a folder is a mount of 3FS. */
export function standInEnv(folder: string, mount: string): Record<string, string> {
  return { HF3FS_LIB_DIR: folder, FST_SIM_3FS_MOUNT: mount };
}

/** Turns a folder into a mount of the stand-in. */
export async function makeMount(path: string): Promise<void> {
  await Deno.mkdir(`${path}/3fs-virt/iovs`, { recursive: true });
}

/** The stand-in's record since the last reset (tests/sim/3fs/sim.h). */
export interface Report {
  readonly live: Readonly<Record<"total" | "iovs" | "rings" | "reads" | "fds", number>>;
  readonly counts: Readonly<
    Record<"reads" | "bytes" | "mostInFlight" | "outOfOrder" | "rings" | "abandoned" | "injected", number>
  >;
  readonly violations: Violations;
}

/** The stand-in in use. */
export class StandIn extends StandInLibrary<Report> {
  /** The folder of the build. */
  readonly folder: string;
  /** The folder that it treats as a mount. */
  readonly mount: string;
  readonly #hold: (held: number) => void;

  constructor(folder: string, mount: string) {
    const path = `${folder}/libhf3fs_api_shared.so`;
    super(path, "fst_sim_3fs");
    this.folder = folder;
    this.mount = mount;
    this.#hold = Deno.dlopen(path, { fst_sim_3fs_hold: { parameters: ["i32"], result: "void" } }).symbols
      .fst_sim_3fs_hold;
  }

  /** Lets no read start until the result is disposed. */
  hold(): Disposable {
    this.#hold(1);
    return { [Symbol.dispose]: () => this.#hold(0) };
  }
}

/** The shared memory that is registered with a mount. */
export function sharedMemory(mount: string): string[] {
  const links = [...Deno.readDirSync(`${mount}/3fs-virt/iovs`)];
  return links.map(({ name }) => Deno.readLinkSync(`${mount}/3fs-virt/iovs/${name}`)).sort();
}

/** The environment of the tests. */
export interface Machine {
  /** The reason that they cannot run; null if they can. */
  readonly missing: string | null;
  readonly standIn: StandIn;
  readonly shim: Shim;
}

/**
 * Turns a folder into the stand-in's mount, for the tests of this file. The shim is the one in use, or a separate build
 * that tests of other files have not opened.
 */
export async function use3fs(inUse?: Shim): Promise<Machine> {
  const { folder, missing } = await buildStandIn("3fs");
  if (missing) return { missing, standIn: null!, shim: null! };
  const mount = await Deno.realPath(await Deno.makeTempDir({ prefix: "fastsafetensors-3fs-" }));
  await makeMount(mount);
  const environment = setEnv({ ...standInEnv(folder, mount), FASTSAFETENSORS_BACKEND: undefined });
  globalThis.addEventListener("unload", () => {
    environment[Symbol.dispose]();
    Deno.removeSync(mount, { recursive: true });
  });
  if (!inUse) useLibrary(await buildTestShim(["-DTEST_3FS"]));
  const shim = inUse ?? (await openLibrary()).shim!;
  await selectEngine();
  await openUsrbio(shim);
  const standIn = new StandIn(folder, mount);
  standIn.reset();
  return { missing, standIn, shim };
}

/** Defines a test with its own folder on the mount; the test must release all resources. */
export type UsrbioTest = (name: string, body: (folder: string) => Promise<void> | void) => void;

/** Resources that a test may leave if it cannot release them. */
export interface Leftovers {
  /** Reads that never completed. */
  readonly abandoned?: boolean;
  /** Most descriptors that the library did not release, since its mount was gone. */
  readonly fds?: number;
}

/** Fails if the stand-in has unreleased resources, or recorded a violation of 3FS' rules. */
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
