/**
 * Saves whose process is killed: at every system call of a commit in turn, held up there by the build of the shim that
 * can be made to fail (native/faults.h).
 */
import { assert, assertEquals } from "@std/assert";
import { buildShim } from "../../ffi/build.ts";
import { isTemporaryName } from "../../src/save/folder.ts";
import { JOURNAL_NAME } from "../../src/save/journal.ts";
import { FAULT_FLAGS, useFaultEngine } from "../support/engine.ts";
import { tempFolder } from "../support/models.ts";
import { suite } from "../support/skip.ts";
import {
  assertNoMixture,
  assertOldOrNew,
  NEW,
  OLD,
  openedAs,
  prepare,
  save,
  SCENES,
  tensorsOf,
} from "./scenes.ts";
import { namesIn } from "./support.ts";

const faults = await useFaultEngine();
const libraryPath = faults.missing === null ? await buildShim({ flags: FAULT_FLAGS }) : "";

const INDEX = "model.safetensors.index.json";

const CHILD = new URL("../children/save.ts", import.meta.url).pathname;

/** Long enough to be killed in, in microseconds. */
const HELD = 60_000_000;

/** Whether a thread of a process sleeps for a time, as the fault layer does and nothing else in a save. */
function isHeld(pid: number): boolean {
  try {
    return [...Deno.readDirSync(`/proc/${pid}/task`)].some(({ name }) =>
      Deno.readTextFileSync(`/proc/${pid}/task/${name}/wchan`).includes("nanosleep")
    );
  } catch {
    return false; // it ends just now
  }
}

/** Saves a scene in a process that is killed at the nth call of a kind; whether there was one. */
async function killAt(folder: string, scene: number, call: string, nth: number): Promise<boolean> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-check",
      "-A",
      CHILD,
      folder,
      String(scene),
      `${call}:${nth}:delay=${HELD}`,
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

/** Fails unless what a kill has left is as good as old or new, and the next save makes it clean. */
async function assertSound(folder: string, number: number, what: string): Promise<void> {
  const scene = SCENES[number]!;
  const names = namesIn(folder);
  const isCommitted = names.includes(JOURNAL_NAME);
  await assertNoMixture(folder);
  // By its index, a set is the old one until that is taken away, which is the first thing to be done.
  if (names.includes(INDEX)) await openedAs(`${folder}/${INDEX}`, scene);
  const settled = isCommitted ? NEW : await assertOldOrNew(folder, scene, isTemporaryName);
  if (settled !== 0) assertEquals(await openedAs(folder, scene), settled, `${what}: ${names}`);
  if (isCommitted) assertEquals(await assertOldOrNew(folder, scene), NEW, what);
  // The next save finds nothing in its way, and leaves nothing but itself.
  await save(folder, tensorsOf(1, OLD), { overwrite: true, maxShardBytes: 2 ** 30 });
  assertEquals(namesIn(folder), ["model.safetensors"], what);
}

/** Kills at every call of these kinds; how many there were. */
async function killEach(number: number, calls: readonly string[]): Promise<number> {
  const counts = await Promise.all(calls.map(async (call) => {
    for (let nth = 1;; nth++) {
      await using folder = await tempFolder();
      await prepare(folder.path, SCENES[number]!);
      const killed = await killAt(folder.path, number, call, nth);
      if (killed) await assertSound(folder.path, number, `${call} ${nth}`);
      else {
        assertEquals(await assertOldOrNew(folder.path, SCENES[number]!), NEW);
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
});
