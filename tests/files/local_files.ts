/**
 * Tests of local files on both engines; tests/files/*_files_test.ts run them, each in a process with one engine.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { autoOpen, fastsafeOpen, ReadError, readHeader, saveFile, UseAfterCloseError } from "../../mod.ts";
import { ParallelLoader, SafeTensorsFileLoader } from "../../src/compat/mod.ts";
import { doctor } from "../../src/doctor/mod.ts";
import { convertPyTorch, openPyTorch } from "../../src/pytorch/mod.ts";
import { SAFETENSORS } from "../../src/files/model_folder.ts";
import { LocalNames } from "../../src/files/native/local_names.ts";
import { selectEngine } from "../../src/load/native/select.ts";
import { closeAll } from "../../src/files/source.ts";
import { assertTensor, tempFolder, writeFile, writeShards } from "../support/models.ts";
import { openDescriptors } from "../support/process.ts";

/** Defines the tests, for the engine in use. */
export function localFileTests(engine: string): void {
  /** Defines a test with its own folder, which is the working folder during the test. */
  function test(name: string, body: (folder: string) => Promise<void>): void {
    Deno.test(`${name} [${engine}]`, async () => {
      await using folder = await tempFolder();
      const before = Deno.cwd();
      Deno.chdir(folder.path);
      try {
        await body(folder.path);
        assertEquals(openDescriptors(folder.path), 0, "descriptors are left open");
      } finally {
        Deno.chdir(before);
      }
    });
  }

  const large = { name: "x", dtype: "U8", shape: [9 << 20] } as const;

  test("reads of a replaced file return the opened file", async () => {
    const [x] = await writeFile("m.safetensors", [large]);
    await using model = await fastsafeOpen("m.safetensors", { lazy: true, blockBytes: 2 ** 18 });
    await saveFile({ y: { dtype: "U8", shape: [3], data: new Uint8Array(3) } }, "n.safetensors");
    await Deno.rename("n.safetensors", "m.safetensors");
    for (let round = 0; round < 2; round++) assertTensor(await model.getTensor("x"), x!);
  });

  test("a relative path counts from the working folder at the time of the call", async (folder) => {
    const data = new Uint8Array([1, 2, 3]);
    const x = { dtype: "U8", shape: [3], data } as const;
    const report = await saveFile({ x }, "there/m.safetensors");
    assertEquals(report.paths, ["there/m.safetensors"]);
    await saveFile({ x, y: { ...x, data: data.slice() } }, "there/set.safetensors", { maxShardBytes: 3 });
    await Deno.copyFile(new URL("../data/pytorch/state_dict.pt", import.meta.url), "there/p.pt");
    const other = `${folder}/other`;
    await Deno.mkdir(other);
    /** Calls, and goes to another folder at once. */
    const leave = async <R>(call: () => Promise<R>): Promise<R> => {
      Deno.chdir(folder);
      const result = call();
      Deno.chdir(other);
      return await result;
    };
    const check = async (model: { keys(): string[] } & AsyncDisposable, names: string[]) => {
      await using opened = model;
      assertEquals(opened.keys(), names);
    };
    await check(await leave(() => fastsafeOpen("there/m.safetensors")), ["x"]);
    await check(await leave(() => autoOpen("there/m.safetensors", { lazy: true })), ["x"]);
    await check(await leave(() => fastsafeOpen({ 0: "there/m.safetensors" })), ["x"]);
    await check(await leave(() => fastsafeOpen("there/set.safetensors.index.json")), ["x", "y"]);
    assert((await leave(() => openPyTorch("there/p.pt"))).keys().length > 0);
    assertEquals([...(await leave(() => readHeader("there/m.safetensors"))).tensors.keys()], ["x"]);
    await assertRejects(() => leave(() => fastsafeOpen("there/none.safetensors")), ReadError, "there/none");

    const loader = new SafeTensorsFileLoader();
    await leave(() => loader.addFilenames({ 0: "there/m.safetensors" }));
    assertEquals(loader.getKeys(), ["x"]);
    await loader.close();
    const weights = await leave(() => {
      return Array.fromAsync(new ParallelLoader(null, "there/m.safetensors").iterateWeights());
    });
    assertEquals(weights.map(([name]) => name), ["x"]);

    await leave(() => saveFile({ x }, "new/m.safetensors"));
    await leave(() => convertPyTorch("there/p.pt", undefined, { validate: true }));
    await leave(() => convertPyTorch("there/p.pt", "new/p.safetensors"));
    for (const path of ["new/m", "there/p", "new/p"]) {
      assert((await Deno.stat(`${folder}/${path}.safetensors`)).isFile, path);
    }
    assertEquals((await leave(() => doctor(["there"]))).storage[0]!.problem, "");
    assertEquals([...Deno.readDirSync(other)], [], "files were written where the program went");
  });

  test("parallel reads of a removed file succeed", async () => {
    const [x] = await writeFile("m.safetensors", [large]);
    const { source } = await selectEngine();
    const file = await source.open("m.safetensors");
    await Deno.remove("m.safetensors");
    const start = file.size - x!.bytes.byteLength;
    await Promise.all(Array.from({ length: 40 }, async (_, index) => {
      const at = index * 200_001;
      const target = new Uint8Array(100_000);
      await file.read(start + at, target);
      assertEquals(target, x!.bytes.slice(at, at + 100_000));
    }));
    await file.verify?.();
    await file.close();
  });

  test("the files of a relative path are found again from the folder in which it was called", async (folder) => {
    const x = { dtype: "U8", shape: [3], data: new Uint8Array([1, 2, 3]) } as const;
    await saveFile({ x, y: { ...x, data: x.data.slice() } }, "set.safetensors", { maxShardBytes: 3 });
    await Deno.symlink("gone.safetensors", "link.safetensors");
    const names = new LocalNames();
    const found = await names.resolve("set.safetensors.index.json", SAFETENSORS);
    const absent = new ReadError("Cannot open", {
      path: "link.safetensors",
      errno: 2,
      cause: new Deno.errors.NotFound(),
    });
    const shards = new Map([["x", "set-00001-of-00002.safetensors"], ["y", "link.safetensors"]]);
    await Deno.mkdir("other");
    Deno.chdir(`${folder}/other`);
    await found.index!.verify!();
    const alone = await names.explainAbsence(absent, []) as Error;
    assertEquals(
      alone.message,
      'Cannot open "link.safetensors": it is a link to "gone.safetensors", which does not exist: download it again',
    );
    const shard = await names.explainAbsence(absent, [{ path: "set.json", weightMap: shards }]) as Error;
    assert(!shard.message.includes("are not there"), shard.message); // the other shard is
    await Deno.writeTextFile(`${folder}/set.safetensors.index.json`, "{}");
    await assertRejects(() => found.index!.verify!(), ReadError, "it was replaced");
  });

  test("a file that is written after it was opened is rejected", async () => {
    await writeFile("m.safetensors", [large]);
    await using model = await fastsafeOpen("m.safetensors", { lazy: true });
    await Deno.utime("m.safetensors", 1, 1);
    await assertRejects(() => model.getTensor("x"), ReadError, "was changed after its header was read");
  });

  test("relative paths are resolved when they are passed", async (folder) => {
    const { paths, tensors } = await writeShards(folder, [[{ ...large, name: "a" }], [{
      ...large,
      name: "b",
    }]]);
    const names = paths.map((path) => path.slice(folder.length + 1));
    await using model = await fastsafeOpen(names, { lazy: true });
    Deno.chdir("/");
    assertTensor(await model.getTensor("a"), tensors[0]!);
    assertTensor(await model.getSharded("b", 0, { from: "file" }), tensors[1]!);
  });

  test("changed inode numbers are ignored", async (folder) => {
    const { tensors } = await writeShards(folder, [[{ ...large, name: "a" }]]);
    const { stat } = Deno;
    const fileStat = Deno.FsFile.prototype.stat;
    let ino = 1;
    const renumbered = (info: Deno.FileInfo) => ({ ...info, ino: ino++ });
    Deno.stat = async (path) => renumbered(await stat(path));
    Deno.FsFile.prototype.stat = async function () {
      return renumbered(await fileStat.call(this));
    };
    try {
      await using model = await fastsafeOpen(folder, { blockBytes: 2 ** 18 });
      for (const tensor of tensors) assertTensor(await model.getTensor(tensor.name), tensor);
      await model.whenLoaded();
    } finally {
      Deno.stat = stat;
      Deno.FsFile.prototype.stat = fileStat;
    }
  });

  test("an error of the system has its number", async () => {
    await writeFile("m.safetensors", [{ name: "x", dtype: "U8", shape: [3] }]);
    await Deno.symlink("loop", "loop");
    await Deno.mkdir("empty");
    const long = "n".repeat(300);
    for (
      const [path, errno, text] of [
        ["none", 2, "no such file or directory (ENOENT)"],
        ["m.safetensors/x", 20, "not a directory (ENOTDIR)"],
        [long, 36, "name too long (ENAMETOOLONG)"],
        ["loop", 40, "too many symbolic links encountered (ELOOP)"],
      ] as const
    ) {
      const error = await assertRejects(() => fastsafeOpen(path), ReadError, text);
      assertEquals([error.errno, error.path], [errno, path]);
    }
    const { source } = await selectEngine();
    const error = await assertRejects(() => source.open("empty"), ReadError);
    assertEquals(error.errno, 21);
  });

  test("a file that is not regular is rejected without waiting", async (folder) => {
    const run = async (command: string, ...args: string[]) => {
      assert((await new Deno.Command(command, { args }).output()).success, command);
    };
    await run("mkfifo", "fifo.safetensors");
    using _socket = Deno.listen({ transport: "unix", path: `${folder}/socket.safetensors` });
    const special = ["fifo.safetensors", "socket.safetensors", "link.safetensors", "/dev/null"];
    await Deno.symlink("fifo.safetensors", "link.safetensors");
    if (Deno.uid() === 0) {
      await run("mknod", "zero.safetensors", "c", "1", "5");
      special.push("zero.safetensors");
    }
    const { source } = await selectEngine();
    for (const path of special) {
      await assertRejects(() => source.open(path), ReadError, `"${path}": it is not a regular file`);
      await assertRejects(() => fastsafeOpen([path]), ReadError, `"${path}": it is not a regular file`);
    }
  });

  test("close() waits for the file's reads, and later reads are rejected", async () => {
    const [x] = await writeFile("m.safetensors", [large]);
    const { source } = await selectEngine();
    const file = await source.open("m.safetensors");
    const start = file.size - x!.bytes.byteLength;
    const targets = Array.from({ length: 6 }, () => new Uint8Array(x!.bytes.byteLength));
    const reads = targets.map((target) => file.read(start, target));
    const closing = Promise.resolve(file.close()).then(() => {
      for (const target of targets) assertEquals(target, x!.bytes);
    });
    await assertRejects(
      () => file.read(0, new Uint8Array(1)),
      UseAfterCloseError,
      'Cannot read "m.safetensors": the file was closed',
    );
    await Promise.all([...reads, closing, file.close()]);
    for (const target of targets) assertEquals(target, x!.bytes);
  });

  test("closeAll() closes all files, also after errors", async () => {
    const closed: number[] = [];
    const file = (number: number, fails = false) => ({
      close() {
        closed.push(number);
        if (fails) throw new Error(`no ${number}`);
      },
    });
    const files = [file(1), undefined, file(2, true), file(3)];
    await assertRejects(() => closeAll(files as never), Error, "no 2");
    assertEquals(closed, [1, 2, 3]);
  });
}
