/**
 * What the tests of 3FS share: the stand-in of tests/sim/3fs over a folder. Call {@linkcode use3fs} at the top of a test
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

/** Makes a folder into what the stand-in takes for a mount. */
export async function makeMount(path: string): Promise<void> {
  await Deno.mkdir(`${path}/3fs-virt/iovs`, { recursive: true });
}

/** What the stand-in has seen since the last reset (tests/sim/3fs/sim.h). */
export interface Report {
  readonly live: Readonly<Record<"total" | "iovs" | "rings" | "reads" | "fds", number>>;
  readonly counts: Readonly<
    Record<"reads" | "bytes" | "mostInFlight" | "outOfOrder" | "rings" | "abandoned" | "injected", number>
  >;
  readonly violations: Violations;
}

/** The stand-in in use. */
export class StandIn extends StandInLibrary<Report> {
  /** The folder that it was built to. */
  readonly folder: string;
  /** The folder that it takes for a mount. */
  readonly mount: string;

  constructor(folder: string, mount: string) {
    super(`${folder}/libhf3fs_api_shared.so`, "fst_sim_3fs");
    this.folder = folder;
    this.mount = mount;
  }
}

/** The shared memory that a mount has been told of. */
export function sharedMemory(mount: string): string[] {
  const links = [...Deno.readDirSync(`${mount}/3fs-virt/iovs`)];
  return links.map(({ name }) => Deno.readLinkSync(`${mount}/3fs-virt/iovs/${name}`)).sort();
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
