/**
 * What killed processes leave in /dev/shm: it is recognised and removed at the next start, and nothing else is.
 */
import { assert, assertEquals } from "@std/assert";
import { buildShim } from "../../ffi/build.ts";
import { createReader, fastsafeOpen } from "../../mod.ts";
import { writeFile } from "../support/models.ts";
import { exists } from "../support/skip.ts";
import { sharedMemory, standInEnv, use3fs, usrbioSuite } from "./support.ts";

const machine = await use3fs();
const HOLD = new URL("../children/usrbio_hold.ts", import.meta.url).pathname;

/** Starts a process that has a ring, and waits until it has. */
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
  test("the memory of a killed process is removed at the next start, that of a living one stays", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [{ name: "x", dtype: "U8", shape: [1000] }]);
    const env = standInEnv(standIn.folder, standIn.mount);
    const living = await hold(path, env);
    const foreign = "/dev/shm/hf3fs-iov-of-somebody-else";
    await Deno.writeTextFile(foreign, "not ours");
    try {
      const held = sharedMemory(standIn.mount);
      assertEquals(held.length, 2, "the memory and the record of it");
      const killed = await hold(path, env);
      const both = sharedMemory(standIn.mount);
      await kill(killed);
      assertEquals([sharedMemory(standIn.mount), both.length], [both, 4]);
      await using model = await fastsafeOpen(path, { source: "3fs" });
      await model.whenLoaded();
      await model.close();
      assertEquals(sharedMemory(standIn.mount), held);
      for (const path of both) assertEquals(exists(path), held.includes(path), path);
      assertEquals(await Deno.readTextFile(foreign), "not ours");
    } finally {
      await Deno.remove(foreign);
      await kill(living);
    }
    await using reader = await createReader();
    await reader.readChunked({ path, totalLength: 1 });
    await reader.close();
    assertEquals(sharedMemory(standIn.mount), []);
  });

  test("records that are damaged, or not ours, remove nothing", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [{ name: "x", dtype: "U8", shape: [1000] }]);
    const victim = `${folder}/victim`;
    const memory = "/dev/shm/hf3fs-iov-victim";
    await Deno.writeTextFile(victim, "keep");
    await Deno.writeTextFile(memory, "keep");
    const records = [
      ["1-0", ""],
      ["1-1", `${victim}\n${standIn.mount}\n`],
      ["1-2", `/dev/shm/hf3fs-iov-/../../${victim}\n${standIn.mount}\n`],
      ["1-3", memory], // cut short
    ] as const;
    for (const [name, text] of records) {
      await Deno.writeTextFile(`/dev/shm/fastsafetensors-iov-${name}`, text);
    }
    await using model = await fastsafeOpen(path, { source: "3fs" });
    await model.whenLoaded();
    await model.close();
    assertEquals(await Deno.readTextFile(victim), "keep");
    assertEquals(await Deno.readTextFile(memory), "keep");
    await Deno.remove(memory);
    for (const [name] of records) assert(!exists(`/dev/shm/fastsafetensors-iov-${name}`));
  });

  test("a load that fails leaves nothing in /dev/shm", async (folder) => {
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
