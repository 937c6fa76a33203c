/**
 * Invalid files, folders and indexes: the error is clear, and all files are closed.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { ReadError, SafeTensorsError } from "../../mod.ts";
import { assertTensor, fileOf, type TensorSpec, writeFile, writeShards } from "../support/models.ts";
import { bytesRead, openDescriptors } from "../support/process.ts";
import type { DefineTest } from "./context.ts";
import { fastsafeOpen } from "./api_in_use.ts";

const FIRST: TensorSpec[] = [{ name: "a", dtype: "U8", shape: [4] }];
const SECOND: TensorSpec[] = [{ name: "b", dtype: "F32", shape: [4] }];

export function badFileTests(test: DefineTest): void {
  test("fastsafeOpen() names the real format of a file", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const cases: [content: string | Uint8Array<ArrayBuffer>, code: string, hint: string][] = [
      [
        "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n",
        "HeaderTooLarge",
        "git lfs pull",
      ],
      ["<!DOCTYPE html><html><body>404</body></html>", "HeaderTooLarge", "web page"],
      ['{"error":"Repository not found"}', "HeaderTooLarge", "a server's response"],
      [new Uint8Array([0x50, 0x4b, 3, 4, ...new Uint8Array(100)]), "InvalidHeaderLength", ""],
      [
        new Uint8Array([0x50, 0x4b, 3, 4, 0, 0, 8, 8, ...new Uint8Array(100)]),
        "HeaderTooLarge",
        "zip archive",
      ],
      [
        new Uint8Array([0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9]),
        "HeaderTooLarge",
        "PyTorch checkpoint",
      ],
      ["", "HeaderTooSmall", "the file is empty"],
      ["\0\x01\x02\x03\x04\x05\x06", "HeaderTooSmall", "8 bytes expected at offset 0, the file has 7"],
      ["1234567", "HeaderTooSmall", 'text that begins with "1234567"'],
      ["\x7f".repeat(9), "HeaderTooLarge", "it is not a safetensors file: its length"],
      [new Uint8Array(1000), "InvalidHeaderDeserialization", "length is 0"],
      [fileOf(FIRST).bytes.slice(0, 40), "InvalidHeaderLength", "truncated"],
      [fileOf(FIRST).bytes.slice(0, -1), "MetadataIncompleteBuffer", ""],
    ];
    for (const [content, code, hint] of cases) {
      await Deno.writeFile(path, typeof content === "string" ? new TextEncoder().encode(content) : content);
      const error = await assertRejects(() => fastsafeOpen(path), SafeTensorsError, hint);
      assertEquals([error.code, error.path], [code, path]);
      assertStringIncludes(error.message, path);
      assertEquals(openDescriptors(folder), 0);
    }
  });

  test("fastsafeOpen() closes the good files if one is bad", async (folder) => {
    const paths: string[] = [];
    for (let index = 0; index < 30; index++) {
      paths.push(`${folder}/${index}.safetensors`);
      await writeFile(paths[index]!, [{ name: `t${index}`, dtype: "U8", shape: [4] }]);
    }
    await Deno.writeTextFile(paths[17]!, "<html>");
    const error = await assertRejects(() => fastsafeOpen(paths), SafeTensorsError);
    assertEquals([error.path, openDescriptors(folder)], [paths[17]!, 0]);
    await Deno.remove(paths[17]!);
    const missing = await assertRejects(() => fastsafeOpen(paths), ReadError, "ENOENT");
    assertEquals([missing.path, openDescriptors(folder)], [paths[17]!, 0]);
  });

  test("fastsafeOpen() rejects a name in two files before it reads tensor data", async (folder) => {
    const body = (name: string): TensorSpec => ({ name, dtype: "U8", shape: [4_000_000] });
    const [first, second] = [`${folder}/a.safetensors`, `${folder}/b.safetensors`];
    await writeFile(first, [body("x"), body("same")]);
    await writeFile(second, [body("same"), body("y")]);
    const before = bytesRead();
    const error = await assertRejects(() => fastsafeOpen([first, second]), SafeTensorsError, first);
    assert(bytesRead() - before < 1_000_000);
    assertEquals([error.code, error.path, error.tensor], ["DuplicateName", second, "same"]);
    await assertRejects(() => fastsafeOpen([first, second]), SafeTensorsError, "open one of them");
    await assertRejects(() => fastsafeOpen([first, second], { names: ["x"] }), SafeTensorsError);
  });

  test("fastsafeOpen() rejects a folder, a pipe and a device as files", async (folder) => {
    await Deno.mkdir(`${folder}/folder.safetensors`);
    const error = await assertRejects(
      () => fastsafeOpen({ 0: [`${folder}/folder.safetensors`] }),
      ReadError,
      "EISDIR",
    );
    assertEquals(error.errno, 21);
    const { success } = await new Deno.Command("mkfifo", { args: [`${folder}/pipe.safetensors`] }).output();
    assert(success);
    for (
      const [path, kind] of [[`${folder}/pipe.safetensors`, "a named pipe (FIFO)"], [
        "/dev/zero",
        "a device",
      ]] as const
    ) {
      await assertRejects(() => fastsafeOpen([path]), ReadError, `not a regular file but ${kind}`);
      await assertRejects(() => fastsafeOpen(path), ReadError, `not a regular file but ${kind}`);
    }
    await assertRejects(() => fastsafeOpen(`${folder}/pipe.safetensors/x`), ReadError, "ENOTDIR");
  });

  test("fastsafeOpen() rejects a folder without safetensors, and names its files", async (folder) => {
    const empty = await assertRejects(() => fastsafeOpen(folder), SafeTensorsError, "no .safetensors file");
    assertEquals([empty.code, empty.path], ["NoTensorFiles", folder]);
    await Deno.writeTextFile(`${folder}/pytorch_model.bin`, "");
    const error = await assertRejects(() => fastsafeOpen(folder), SafeTensorsError, "pytorch_model.bin");
    assertEquals(error.code, "NoTensorFiles");
    await assertRejects(() => fastsafeOpen(`${folder}/missing`), ReadError, "ENOENT");
  });

  test("fastsafeOpen() names the missing shard of an index", async (folder) => {
    const { indexPath, paths } = await writeShards(folder, [FIRST, SECOND]);
    await Deno.remove(paths[1]!);
    for (const files of [indexPath, folder]) {
      const error = await assertRejects(() => fastsafeOpen(files), SafeTensorsError, indexPath);
      assertEquals([error.code, error.path], ["MissingShard", paths[1]!]);
      assert(error.cause instanceof ReadError);
    }
  });

  test("fastsafeOpen() opens the tensors that exist if an index lists more, and rejects only the others", async (folder) => {
    const { indexPath, paths, tensors } = await writeShards(folder, [FIRST, SECOND]);
    const [shardA, shardB] = paths.map((path) => path.slice(folder.length + 1));
    const map = { a: shardA!, b: shardB!, c: shardB!, d: shardA! };
    await Deno.writeTextFile(indexPath, JSON.stringify({ weight_map: map }));
    for (const files of [indexPath, folder]) {
      for (const options of [{}, { lazy: true }]) {
        await using model = await fastsafeOpen(files, options);
        assertEquals(model.keys(), ["a", "b"]);
        for (const tensor of tensors) assertTensor(await model.getTensor(tensor.name), tensor);
        const notes = model.stats().notes.filter((note) => note.includes("do not have what it lists"));
        assertEquals(notes.length, 1);
        assertStringIncludes(notes[0]!, '2 tensors, such as "c"');
        for (const name of ["c", "d"]) {
          const error = await assertRejects(() => model.getTensor(name), SafeTensorsError, `"${name}"`);
          assertEquals([error.code, error.tensor], ["TensorNotFound", name]);
          assertStringIncludes(
            error.message,
            `the index "${indexPath}" says that it is in "${paths["dc".indexOf(name)]}"`,
          );
        }
      }
      await using some = await fastsafeOpen(files, { names: ["a"] });
      assertEquals(some.keys(), ["a"]);
      const names = ["a", "c"];
      await assertRejects(() => fastsafeOpen(files, { names }), SafeTensorsError, "which does not have it");
    }
  });

  test("fastsafeOpen() finds a tensor in another shard than the index says, and notes it", async (folder) => {
    const { indexPath, paths, tensors } = await writeShards(folder, [FIRST, SECOND]);
    const [shardA, shardB] = paths.map((path) => path.slice(folder.length + 1));
    await Deno.writeTextFile(indexPath, JSON.stringify({ weight_map: { a: shardB!, b: shardA! } }));
    await using model = await fastsafeOpen(folder);
    for (const tensor of tensors) assertTensor(await model.getTensor(tensor.name), tensor);
    assert(model.stats().notes.some((note) => note.startsWith("In another shard than the index")));
  });

  test("fastsafeOpen() reads a name that is in two shards from the one that the index names", async (folder) => {
    const name = (number: number) => `model-0000${number}-of-00003.safetensors`;
    const same = (seed: number): TensorSpec => ({
      name: "w",
      dtype: "U8",
      shape: [4],
      bytes: new Uint8Array(4).fill(seed),
    });
    await writeFile(`${folder}/${name(1)}`, [same(1), ...FIRST]);
    await writeFile(`${folder}/${name(2)}`, [same(2)]);
    await writeFile(`${folder}/${name(3)}`, [...SECOND, same(3)]);
    const indexPath = `${folder}/model.safetensors.index.json`;
    for (const number of [1, 2, 3]) {
      const map = { w: name(number), a: name(1), b: name(3), other: name(2) };
      await Deno.writeTextFile(indexPath, JSON.stringify({ weight_map: map }));
      await using model = await fastsafeOpen(folder);
      assertEquals((await model.getTensor("w")).bytes, new Uint8Array(4).fill(number));
      assertEquals(model.info("w").path, `${folder}/${name(number)}`);
      assertEquals(model.keys().toSorted(), ["a", "b", "w"]);
      assert(model.stats().notes.some((note) => note.startsWith("In two shards") && note.includes('"w"')));
    }
    await Deno.writeTextFile(
      indexPath,
      JSON.stringify({ weight_map: { a: name(1), b: name(3), other: name(2) } }),
    );
    const error = await assertRejects(() => fastsafeOpen(folder), SafeTensorsError, "is also in");
    assertEquals([error.code, error.tensor], ["DuplicateName", "w"]);
  });

  test("fastsafeOpen() opens shards below the folder of an index", async (folder) => {
    await Deno.mkdir(`${folder}/shards`);
    const a = await writeFile(`${folder}/shards/m.safetensors`, FIRST);
    const b = await writeFile(`${folder}/n.safetensors`, SECOND);
    const indexPath = `${folder}/model.safetensors.index.json`;
    await Deno.writeTextFile(
      indexPath,
      '{"weight_map": {"a": "./shards/m.safetensors", "b": "./n.safetensors"}}',
    );
    for (const files of [indexPath, folder]) {
      await using model = await fastsafeOpen(files);
      for (const tensor of [...a, ...b]) assertTensor(await model.getTensor(tensor.name), tensor);
      assertEquals(model.info("a").path, `${folder}/shards/m.safetensors`);
    }
  });

  test("fastsafeOpen() names the real format of an index, and does not wait for a pipe", async (folder) => {
    const indexPath = `${folder}/model.safetensors.index.json`;
    const cases: [content: string, part: string][] = [
      ["version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"],
      ["<!DOCTYPE html><html>", "web page"],
      ["Entry not found", "a server's response"],
      ['{"metadata": {}, "weight_map": {}}', '"weight_map" is empty'],
    ];
    for (const [content, part] of cases) {
      await Deno.writeTextFile(indexPath, content);
      for (const files of [indexPath, folder]) {
        const error = await assertRejects(() => fastsafeOpen(files), SafeTensorsError, part);
        assertEquals([error.code, error.path], ["InvalidIndex", indexPath]);
      }
    }
    await Deno.remove(indexPath);
    await Deno.symlink("../../blobs/gone", indexPath);
    await assertRejects(() => fastsafeOpen(folder), ReadError, "it is a link to");
    await Deno.remove(indexPath);
    assert((await new Deno.Command("mkfifo", { args: [indexPath] }).output()).success);
    for (const files of [indexPath, folder]) {
      const error = await assertRejects(() => fastsafeOpen(files), ReadError, "not a regular file");
      assertEquals(error.path, indexPath);
    }
  });

  test("fastsafeOpen() rejects an index that names files outside its folder, or is not an index", async (folder) => {
    const outside = `${folder}/secret.safetensors`;
    await writeFile(outside, FIRST);
    await Deno.mkdir(`${folder}/model`);
    const indexPath = `${folder}/model/model.safetensors.index.json`;
    await writeFile(`${folder}/model/model.safetensors`, FIRST);
    const names = [
      "../secret.safetensors",
      outside,
      "..",
      ".",
      "",
      "a/../../secret.safetensors",
      "..\\secret",
      "x\0y",
    ];
    const contents = [
      ...names.map((name) => JSON.stringify({ weight_map: { a: name } })),
      '{"weight_map": {"a": "model.safetensors", "a": "other.safetensors"}}',
      '{"weight_map": {"a": 5}}',
      '{"weight_map": {"a": "model.safetensors"',
      '{"metadata": {}}',
      "[]",
      "",
      "\u00ff",
    ];
    for (const content of contents) {
      await Deno.writeTextFile(indexPath, content);
      for (const files of [indexPath, `${folder}/model`]) {
        const error = await assertRejects(() => fastsafeOpen(files), SafeTensorsError, indexPath);
        assertEquals([error.code, error.path], ["InvalidIndex", indexPath], content);
      }
    }
    await Deno.truncate(indexPath, 300 * 2 ** 20); // sparse
    const error = await assertRejects(
      () => fastsafeOpen(indexPath),
      SafeTensorsError,
      "larger than the limit",
    );
    assertEquals(error.code, "InvalidIndex");
  });
}
