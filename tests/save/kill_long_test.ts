/**
 * Saves whose process is killed at each system call of a commit. The shim with fault injection delays the call
 * (tests/native/added/added.h).
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { SafeTensorsError } from "../../mod.ts";
import { useFaultEngine } from "../support/engine.ts";
import { buildTestShim } from "../support/test_library.ts";
import { tempFolder } from "../support/models.ts";
import { exists, suite } from "../support/skip.ts";
import {
  assertNoMixture,
  assertOldOrNew,
  NEW,
  OLD,
  openedAs,
  prepare,
  repairAll,
  save,
  type Scene,
  SCENES,
  tensorsOf,
} from "./scenes.ts";
import { namesIn } from "./support.ts";

const faults = await useFaultEngine();
const libraryPath = faults.missing === null ? await buildTestShim() : "";

const INDEX = "model.safetensors.index.json";

const JOURNAL = ".model.fastsafetensors.json";

const CHILD = new URL("../children/save.ts", import.meta.url).pathname;

/** Delay in microseconds, long enough for the kill. */
const HELD = 60_000_000;

/** Whether a thread of a process sleeps; in a save only the fault layer does. */
function isHeld(pid: number): boolean {
  try {
    return [...Deno.readDirSync(`/proc/${pid}/task`)].some(({ name }) =>
      Deno.readTextFileSync(`/proc/${pid}/task/${name}/wchan`).includes("nanosleep")
    );
  } catch {
    return false; // the process ended meanwhile
  }
}

/** Conditions of a scene. */
interface Surroundings {
  /** Whether the old files are links to files in another folder. */
  readonly linked: boolean;
  /** Faults of the file system. */
  readonly faults: string;
}

const ORDINARY: Surroundings = { linked: false, faults: "" };

/** Saves a scene in a process that is killed at the nth call of a kind; returns whether that call was reached. */
async function killAt(
  folder: string,
  scene: number,
  call: string,
  nth: number,
  { faults }: Surroundings,
): Promise<boolean> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-check",
      "-A",
      CHILD,
      folder,
      String(scene),
      `${faults}${call}:${nth}:delay=${HELD}`,
    ],
    env: { FASTSAFETENSORS_LIB: libraryPath },
    stdout: "null",
    stderr: "piped",
  }).spawn();
  let ended = false;
  const status = child.status.finally(() => ended = true);
  while (!ended && !isHeld(child.pid)) await new Promise((resolve) => setTimeout(resolve, 5));
  if (!ended) child.kill("SIGKILL");
  const { code, signal } = await status;
  const complaint = new TextDecoder().decode(new Uint8Array(await new Response(child.stderr).arrayBuffer()));
  assert(signal === "SIGKILL" || code === 0, complaint);
  return signal === "SIGKILL";
}

/** The mode of every old file, and therefore of every new file that replaces one. */
const MODE = 0o640;

/** Creates the old files in the folder "here"; targets of links are in the folder "disk". */
async function prepareIn(folder: string, scene: Scene, { linked }: Surroundings): Promise<string> {
  const here = `${folder}/here`, disk = `${folder}/disk`;
  await Deno.mkdir(here);
  await Deno.mkdir(disk);
  await prepare(here, scene);
  for (const name of namesIn(here)) {
    await Deno.chmod(`${here}/${name}`, MODE);
    if (!linked) continue;
    await Deno.rename(`${here}/${name}`, `${disk}/blob of ${name}`);
    await Deno.symlink(`../disk/blob of ${name}`, `${here}/${name}`);
  }
  return here;
}

/** Names and contents of files. */
function contentsOf(folder: string): string[] {
  return namesIn(folder).map((name) => {
    const { isDirectory, isSymlink } = Deno.lstatSync(`${folder}/${name}`);
    return `${name} ${isDirectory || isSymlink ? "" : Deno.readFileSync(`${folder}/${name}`).toBase64()}`;
  });
}

/** A file of an unfinished save. */
function isOnItsWay(name: string): boolean {
  return /^\.fastsafetensors-[0-9a-f]{12}\.(tmp|link)$/.test(name);
}

/** Fails unless the files after a kill are equivalent to the old or the new set, and the next save cleans up. */
async function assertSound(here: string, number: number, what: string): Promise<void> {
  const scene = SCENES[number]!;
  const names = namesIn(here).filter((name) => exists(`${here}/${name}`));
  const isCommitted = names.includes(JOURNAL);
  await assertNoMixture(here);
  // Opened by its index, a set is the old one until the index is removed, the first step of a commit.
  if (names.includes(INDEX)) await openedAs(`${here}/${INDEX}`, scene);
  if (isCommitted) {
    // Opening changes nothing.
    const before = [contentsOf(here), contentsOf(`${here}/../disk`)];
    await assertRejects(() => openedAs(here, scene), SafeTensorsError, "was interrupted");
    assertEquals([contentsOf(here), contentsOf(`${here}/../disk`)], before, what);
    await repairAll(here);
  }
  const settled = await assertOldOrNew(here, scene, isOnItsWay);
  if (isCommitted) assertEquals(settled, NEW);
  if (settled !== 0) assertEquals(await openedAs(here, scene), settled, `${what}: ${names}`);
  assertModes(here, scene, what);
  // The next save succeeds, and leaves only its own files.
  await save(here, tensorsOf(1, OLD), { overwrite: true, maxShardBytes: 2 ** 30 });
  assertEquals(namesIn(here), ["model.safetensors"], what);
  assertEquals(namesIn(`${here}/../disk`).filter(isOnItsWay), [], what);
  assertModes(here, scene, what);
}

/** Fails unless files have the mode of the files that they replace. */
function assertModes(here: string, scene: Scene, what: string): void {
  if (scene.old === 0) return;
  for (const name of namesIn(here).filter((name) => name.startsWith("model"))) {
    assertEquals(Deno.statSync(`${here}/${name}`).mode! & 0o777, MODE, `${what}: ${name}`);
  }
}

/** Kills at every call of these kinds; returns the number of calls. */
async function killEach(number: number, calls: readonly string[], surroundings = ORDINARY): Promise<number> {
  const scene = SCENES[number]!;
  const counts = await Promise.all(calls.map(async (call) => {
    for (let nth = 1;; nth++) {
      await using folder = await tempFolder();
      const here = await prepareIn(folder.path, scene, surroundings);
      const killed = await killAt(here, number, call, nth, surroundings);
      if (killed) await assertSound(here, number, `${call} ${nth}`);
      else {
        assertEquals(await assertOldOrNew(here, scene), NEW);
        assertModes(here, scene, call);
        const isLink = (name: string) => Deno.lstatSync(`${here}/${name}`).isSymlink;
        // If old and new files have the same names, links stay links.
        if (surroundings.linked && scene.old === scene.new) assertEquals(namesIn(here).every(isLink), true);
        return nth - 1;
      }
    }
  }));
  return counts.reduce((sum, count) => sum + count, 0);
}

suite("saves whose process is killed", "native", faults.missing, () => {
  for (const [number, { what }] of SCENES.entries()) {
    const every = what === "one file over another" || what === "a set over one of as many files";
    const calls = every ? ["create", "allocate", "pwrite", "fsync", "rename"] : ["rename", "fsync"];
    Deno.test(`a save of ${what} that is killed at any ${calls.join(", ")} leaves the old or the new`, async () => {
      const kills = await killEach(number, calls);
      assert(kills >= 3, String(kills));
    });
  }

  for (
    const what of ["one file over another", "a set over one of as many files", "a set over one of more files"]
  ) {
    const number = SCENES.findIndex((scene) => scene.what === what);
    Deno.test(`a save of ${what} through links that is killed at any rename leaves the old or the new`, async () => {
      assert(await killEach(number, ["rename"], { linked: true, faults: "" }) >= 1);
    });

    Deno.test(`a save of ${what} without hard links that is killed at any rename leaves the old or the new`, async () => {
      assert(await killEach(number, ["rename"], { linked: false, faults: "rename:*:plain,link:*:1," }) >= 1);
    });
  }
});
