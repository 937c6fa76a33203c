/**
 * A process leaves no files in /dev/shm, for every kind of end.
 */
import { assertEquals } from "@std/assert";
import { buildShim } from "../../ffi/build.ts";
import { fastsafeOpen } from "../../mod.ts";
import { writeFile } from "../support/models.ts";
import { exists } from "../support/skip.ts";
import { sharedMemory, standInEnv, use3fs, usrbioSuite } from "./support.ts";

const machine = await use3fs();
const HOLD = new URL("../children/usrbio_hold.ts", import.meta.url).pathname;

/** Starts a process with a ring, and waits for the ring. */
async function hold(path: string, env: Record<string, string>): Promise<Deno.ChildProcess> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--no-check", "--quiet", HOLD, path],
    env: { FASTSAFETENSORS_LIB: await buildShim(), ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  reader.releaseLock();
  assertEquals(new TextDecoder().decode(value), "holding\n");
  return child;
}

async function kill(child: Deno.ChildProcess): Promise<void> {
  child.kill("SIGKILL");
  await child.stdout.cancel();
  assertEquals((await child.status).signal, "SIGKILL");
}

usrbioSuite("Leftovers of 3FS", machine, (test, standIn) => {
  test("a killed process leaves no files in /dev/shm", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [{ name: "x", dtype: "U8", shape: [1000] }]);
    const env = standInEnv(standIn.folder, standIn.mount);
    const child = await hold(path, env);
    const names = sharedMemory(standIn.mount);
    assertEquals(names.map(exists), [false], "the child has memory, which has lost its name");
    await kill(child);
    for (const { name } of Deno.readDirSync(`${standIn.mount}/3fs-virt/iovs`)) {
      await Deno.remove(`${standIn.mount}/3fs-virt/iovs/${name}`); // as 3FS does
    }
  });

  test("a failed load leaves no files in /dev/shm", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [{ name: "x", dtype: "U8", shape: [3_000_000] }]);
    for (const spec of ["read:3:-5", "iorcreate4:1:-5", "prep_io:2:-22", "reg_fd:1:24"]) {
      using _ = standIn.fail(spec);
      await fastsafeOpen(path, { source: "3fs" }).then((model) =>
        model.whenLoaded().finally(() => model.close())
      )
        .catch(() => {});
      assertEquals(sharedMemory(standIn.mount), [], spec);
    }
  });
});
