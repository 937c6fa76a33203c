/**
 * Files, folders and indexes that are not what they should be: a clear error, and nothing left open.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { ReadError, SafeTensorsError } from "../../mod.ts";
import { fileOf, type TensorSpec, writeFile, writeShards } from "../support/models.ts";
import { bytesRead, openDescriptors } from "../support/process.ts";
import type { DefineTest } from "./context.ts";
import { fastsafeOpen } from "./doors_in_use.ts";

const FIRST: TensorSpec[] = [{ name: "a", dtype: "U8", shape: [4] }];
const SECOND: TensorSpec[] = [{ name: "b", dtype: "F32", shape: [4] }];

export function badFileTests(test: DefineTest): void {
  test("fastsafeOpen() tells what a file really is", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const cases: [content: string | Uint8Array<ArrayBuffer>, code: string, hint: string][] = [
      [
        "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n",
        "HeaderTooLarge",
        "git lfs pull",
      ],
      ["<!DOCTYPE html><html><body>404</body></html>", "HeaderTooLarge", "web page"],
      ['{"error":"Repository not found"}', "HeaderTooLarge", "the answer of a server"],
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

  test("fastsafeOpen() finds a name in two files before it reads any body", async (folder) => {
    const body = (name: string): TensorSpec => ({ name, dtype: "U8", shape: [4_000_000] });
    const [first, second] = [`${folder}/a.safetensors`, `${folder}/b.safetensors`];
    await writeFile(first, [body("x"), body("same")]);
    await writeFile(second, [body("same"), body("y")]);
    const before = bytesRead();
    const error = await assertRejects(() => fastsafeOpen([first, second]), SafeTensorsError, first);
    assert(bytesRead() - before < 1_000_000);
    assertEquals([error.code, error.path, error.tensor], ["DuplicateName", second, "same"]);
    await assertRejects(() => fastsafeOpen([first, first]), SafeTensorsError, "is also in");
    await assertRejects(() => fastsafeOpen([first, second], { names: ["x"] }), SafeTensorsError);
  });

  test("fastsafeOpen() refuses a folder, a pipe and a device as files", async (folder) => {
    await Deno.mkdir(`${folder}/folder.safetensors`);
    const error = await assertRejects(
      () => fastsafeOpen([`${folder}/folder.safetensors`]),
      ReadError,
      "EISDIR",
    );
    assertEquals(error.errno, 21);
    const { success } = await new Deno.Command("mkfifo", { args: [`${folder}/pipe.safetensors`] }).output();
    assert(success);
    for (const path of [`${folder}/pipe.safetensors`, "/dev/zero"]) {
      await assertRejects(() => fastsafeOpen([path]), ReadError, "not a regular file");
      await assertRejects(() => fastsafeOpen(path), ReadError, "not a regular file");
    }
    await assertRejects(() => fastsafeOpen(`${folder}/pipe.safetensors/x`), ReadError, "ENOTDIR");
  });

  test("fastsafeOpen() refuses a folder without safetensors, and names what is there", async (folder) => {
    const empty = await assertRejects(() => fastsafeOpen(folder), SafeTensorsError, "no .safetensors file");
    assertEquals([empty.code, empty.path], ["NoTensorFiles", folder]);
    await Deno.writeTextFile(`${folder}/pytorch_model.bin`, "");
    const error = await assertRejects(() => fastsafeOpen(folder), SafeTensorsError, "pytorch_model.bin");
    assertEquals(error.code, "NoTensorFiles");
    await assertRejects(() => fastsafeOpen(`${folder}/missing`), ReadError, "ENOENT");
  });

  test("fastsafeOpen() says which shard of an index is missing", async (folder) => {
    const { indexPath, paths } = await writeShards(folder, [FIRST, SECOND]);
    await Deno.remove(paths[1]!);
    for (const files of [indexPath, folder]) {
      const error = await assertRejects(() => fastsafeOpen(files), SafeTensorsError, indexPath);
      assertEquals([error.code, error.path], ["MissingShard", paths[1]!]);
      assert(error.cause instanceof ReadError);
    }
  });

  test("fastsafeOpen() refuses an index that its shards do not bear out", async (folder) => {
    const { indexPath, paths } = await writeShards(folder, [FIRST, SECOND]);
    const index = JSON.parse(await Deno.readTextFile(indexPath));
    const [shardA, shardB] = paths.map((path) => path.slice(folder.length + 1));
    const cases: [Record<string, string>, tensor: string][] = [
      [{ a: shardA!, b: shardA! }, "b"],
      [{ a: shardA!, b: shardB!, c: shardB! }, "c"],
      [{ a: shardB!, b: shardA! }, "a"],
    ];
    for (const [weightMap, tensor] of cases) {
      await Deno.writeTextFile(indexPath, JSON.stringify({ ...index, weight_map: weightMap }));
      const error = await assertRejects(() => fastsafeOpen(indexPath), SafeTensorsError, `"${tensor}"`);
      assertEquals([error.code, error.tensor], ["TensorNotFound", tensor]);
      assertEquals(openDescriptors(folder), 0);
    }
  });

  test("fastsafeOpen() refuses an index that names files elsewhere, or is no index", async (folder) => {
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
      '{"weight_map": {"a": "model.safetensors", "a": "model.safetensors"}}',
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
