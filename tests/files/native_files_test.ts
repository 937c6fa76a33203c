import { assertEquals, assertRejects } from "@std/assert";
import { fastsafeOpen, ReadError, serialize } from "../../mod.ts";
import { createReader } from "../../src/three_fs/mod.ts";
import { selectEngine } from "../../src/load/native/select.ts";
import { tempFolder, writeFile, writeShards } from "../support/models.ts";
import { suite } from "../support/skip.ts";
import { useFaultEngine } from "../support/engine.ts";
import { localFileTests } from "./local_files.ts";

const faults = await useFaultEngine();

suite("local files on the native engine", "native", faults.missing, () => {
  localFileTests("native");

  Deno.test("opening looks once at each path, by Deno and then by the opened file", async () => {
    await using folder = await tempFolder();
    const one = `${folder.path}/model.safetensors`;
    await writeFile(one, [{ name: "x", dtype: "U8", shape: [3] }]);
    await Deno.mkdir(`${folder.path}/shards`);
    const { paths, indexPath } = await writeShards(`${folder.path}/shards`, [
      [{ name: "a", dtype: "U8", shape: [3] }],
      [{ name: "b", dtype: "U8", shape: [3] }],
    ]);
    const looked: string[] = [];
    const { stat } = Deno;
    Deno.stat = (path) => {
      looked.push(String(path));
      return stat(path);
    };
    const open = async (input: string) => {
      looked.length = 0;
      await using _model = await fastsafeOpen(input);
      return looked.toSorted();
    };
    try {
      assertEquals(await open(one), [one]);
      // Once the shards are open the index is looked at again: it may have been replaced meanwhile.
      assertEquals(await open(indexPath), [...paths, indexPath, indexPath].sort());
    } finally {
      Deno.stat = stat;
    }
  });

  Deno.test("a file that became a FIFO after its stat is rejected", async () => {
    await using folder = await tempFolder();
    const path = `${folder.path}/fifo`;
    const { success } = await new Deno.Command("mkfifo", { args: [path] }).output();
    assertEquals(success, true);
    const { source } = await selectEngine();
    await assertRejects(() => source.open(path, undefined, true), ReadError, "Cannot open");
  });

  /** Takes the lowest free descriptor, like the next file that the program opens, and checks the result of a read. */
  async function whileClosing(
    folder: string,
    read: (path: string) => Promise<{ bytes: Promise<Uint8Array>; close: () => unknown }>,
  ) {
    const header = (letter: string) => {
      const x = { dtype: "U8", shape: [1], data: new Uint8Array(1) } as const;
      return serialize({ x }, { letter: letter.repeat(300_000) });
    };
    await Deno.writeFile(`${folder}/a`, header("a"));
    await Deno.writeFile(`${folder}/b`, header("b"));
    const { bytes, close } = await read(`${folder}/a`);
    await new Promise((resolve) => setTimeout(resolve, 100)); // the read is in its system call
    const closing = close();
    await new Promise((resolve) => setTimeout(resolve, 20));
    using _b = await Deno.open(`${folder}/b`);
    const letters = new Set(new TextDecoder().decode(await bytes).match(/aaa|bbb/g));
    assertEquals([...letters], ["aaa"]);
    await closing;
  }

  Deno.test("a descriptor is not closed during a read, and its reused number is not read", async () => {
    await using folder = await tempFolder();
    await whileClosing(folder.path, async (path) => {
      const { source } = await selectEngine();
      const file = await source.open(path);
      const target = new Uint8Array(file.size);
      using _ = faults.set("pread:1:delay=400000");
      const bytes = file.read(0, target).then(() => target);
      await new Promise((resolve) => setTimeout(resolve, 50));
      return { bytes, close: () => file.close() };
    });
  });

  Deno.test("closing a reader waits for running reads of headers", async () => {
    await using folder = await tempFolder();
    await whileClosing(folder.path, async (path) => {
      const reader = await createReader({ backend: "posix" });
      using _ = faults.set("pread:2:delay=400000"); // the read of the header's rest
      const headers = reader.readHeadersBatch([path], { threads: 1 });
      await new Promise((resolve) => setTimeout(resolve, 50));
      const bytes = headers.then((read) => new TextEncoder().encode(read.get(path)!.json));
      return { bytes, close: () => reader.close() };
    });
  });
});
