/**
 * Opening: the accepted inputs, and the facts that are known before a tensor is read.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { type Files, ReadError, SafeTensorsError, type TensorSummary } from "../../mod.ts";
import type { ProcessGroup } from "../../src/ranks/mod.ts";
import { assertTensor, type TensorSpec, writeFile, writeShards, type Written } from "../support/models.ts";
import type { DefineTest } from "./context.ts";
import { fastsafeOpen } from "./api_in_use.ts";

const FIRST: TensorSpec[] = [
  { name: "embed.weight", dtype: "BF16", shape: [16, 8] },
  { name: "bias", dtype: "F32", shape: [8] },
];
const SECOND: TensorSpec[] = [
  { name: "head.weight", dtype: "F16", shape: [8, 16] },
  { name: "ids", dtype: "I64", shape: [3] },
];

/** Opens, and compares every tensor with the written one. */
async function assertOpens(files: Files, expected: readonly Written[]): Promise<void> {
  await using model = await fastsafeOpen(files);
  assertEquals(model.keys(), expected.map(({ name }) => name));
  for (const tensor of expected) assertTensor(await model.getTensor(tensor.name), tensor);
}

export function openingTests(test: DefineTest): void {
  test("fastsafeOpen() opens a file, a list of one and a file: URL", async (folder) => {
    const path = `${folder}/a model, 100%.safetensors`;
    const tensors = await writeFile(path, FIRST);
    const url = new URL(`file://${folder}/`);
    url.pathname += encodeURIComponent("a model, 100%.safetensors");
    for (const files of [path, [path], url, url.href, [url]]) await assertOpens(files, tensors);
  });

  test("fastsafeOpen() opens a path relative to the working folder", async (folder) => {
    const tensors = await writeFile(`${folder}/model.safetensors`, FIRST);
    const up = Deno.cwd().split("/").filter((part) => part !== "").map(() => "..").join("/");
    await assertOpens(`${up || "."}${folder}/model.safetensors`, tensors);
  });

  test("fastsafeOpen() opens a list in the order given", async (folder) => {
    const first = await writeFile(`${folder}/a.safetensors`, FIRST);
    const second = await writeFile(`${folder}/b.safetensors`, SECOND);
    await assertOpens([`${folder}/b.safetensors`, `${folder}/a.safetensors`], [...second, ...first]);
  });

  test("fastsafeOpen() opens files by rank, and rejects a rank outside of the group", async (folder) => {
    const first = await writeFile(`${folder}/a.safetensors`, FIRST);
    const second = await writeFile(`${folder}/b.safetensors`, SECOND);
    await assertOpens({ 0: [`${folder}/a.safetensors`, `${folder}/b.safetensors`] }, [...first, ...second]);
    await assertOpens({ 0: `${folder}/a.safetensors` }, first);
    for (const files of [{ 1: [`${folder}/a.safetensors`] }, { 0: [], 7: [] }, { "-1": [] }, { x: [] }]) {
      await assertRejects(() => fastsafeOpen(files as Files), RangeError, "the group has 1");
    }
    const message =
      'Cannot open files for rank "1": the group has 1, this process, which is rank 0: pass the option group';
    const files = { 0: `${folder}/a.safetensors`, 1: `${folder}/b.safetensors` };
    await assertRejects(() => fastsafeOpen(files), RangeError, message);
  });

  test("fastsafeOpen() opens the shards of a folder, sorted", async (folder) => {
    const second = await writeFile(`${folder}/a-2-of-2.safetensors`, SECOND);
    const first = await writeFile(`${folder}/a-1-of-2.safetensors`, FIRST);
    await Deno.writeTextFile(`${folder}/config.json`, "{}");
    await Deno.mkdir(`${folder}/c.safetensors`);
    await assertOpens(folder, [...first, ...second]);
    await assertOpens(`${folder}/`, [...first, ...second]);
    await assertOpens(new URL(`file://${folder}/`), [...first, ...second]);
  });

  test("fastsafeOpen() opens an index, by itself and in its folder", async (folder) => {
    const { indexPath, tensors } = await writeShards(folder, [FIRST, SECOND]);
    await writeFile(`${folder}/unrelated.safetensors`, [{ name: "other", dtype: "U8", shape: [1] }]);
    await assertOpens(indexPath, tensors);
    await assertOpens(folder, tensors);
  });

  test("fastsafeOpen() accepts an index of another name if it is the only one", async (folder) => {
    const { indexPath, tensors } = await writeShards(folder, [FIRST, SECOND]);
    await Deno.rename(indexPath, `${folder}/x.safetensors.index.json`);
    await assertOpens(folder, tensors);
    await Deno.copyFile(`${folder}/x.safetensors.index.json`, `${folder}/y.safetensors.index.json`);
    await assertRejects(() => fastsafeOpen(folder), SafeTensorsError, "open one of them");
    await Deno.rename(`${folder}/x.safetensors.index.json`, indexPath);
    await assertOpens(folder, tensors);
  });

  test("fastsafeOpen() follows the symbolic links of a Hugging Face cache", async (folder) => {
    const snapshot = `${folder}/models--x--y/snapshots/0123abcd`;
    const blobs = `${folder}/models--x--y/blobs`;
    await Deno.mkdir(snapshot, { recursive: true });
    await Deno.mkdir(blobs);
    const { paths, indexPath, tensors } = await writeShards(snapshot, [FIRST, SECOND]);
    for (const [index, path] of [...paths, indexPath].entries()) {
      await Deno.rename(path, `${blobs}/${index}`);
      await Deno.symlink(`../../blobs/${index}`, path);
    }
    await assertOpens(snapshot, tensors);
    await assertOpens(indexPath, tensors);
    await assertOpens([...paths], tensors);
    await Deno.symlink(`${folder}/models--x--y`, `${folder}/link`);
    await assertOpens(`${folder}/link/snapshots/0123abcd`, tensors);
  });

  test("fastsafeOpen() notes tensors that the index does not list", async (folder) => {
    const { indexPath, tensors } = await writeShards(folder, [FIRST, SECOND]);
    const index = JSON.parse(await Deno.readTextFile(indexPath));
    delete index.weight_map.bias;
    await Deno.writeTextFile(indexPath, JSON.stringify(index));
    const other = `${folder}/other.safetensors`;
    await writeFile(other, [{ name: "other", dtype: "U8", shape: [1] }]);
    await using model = await fastsafeOpen([other, indexPath]);
    assertTensor(await model.getTensor("bias"), tensors[1]!);
    assert(
      model.stats().notes.some((note) =>
        note === `In the shards but not in the index "${indexPath}": tensor "bias"`
      ),
    );
  });

  test("fastsafeOpen() opens a set of paths", async (folder) => {
    const path = `${folder}/a.safetensors`;
    await assertOpens(new Set([path]), await writeFile(path, FIRST));
  });

  test("fastsafeOpen() rejects values that are not paths", async (folder) => {
    const path = `${folder}/a.safetensors`;
    await writeFile(path, FIRST);
    const cases: [unknown, string][] = [
      ["", "not a path"],
      ["a\0b", "not a path"],
      [[], "empty"],
      [{}, "empty"],
      [new Set(), "empty"],
      [new URL("data:,bytes"), "the schemes are"],
      [[5], "must be a string, got 5"],
      [[[path]], "must be a string, got an array"],
      [5, "must be a path"],
      [null, "must be a path"],
      [new Map([[path, path]]), "must be a path, a list or a record by rank, got a Map"],
      [Promise.resolve(path), "got a Promise: await it first"],
      [new Uint8Array(10), "got a Uint8Array: use deserialize(bytes) for the bytes of a file"],
      [new ArrayBuffer(10), "deserialize(bytes)"],
      [new Blob(), "got a Blob: use await deserialize(file) for its bytes"],
      ["https://", "it is not a URL"],
      ["hf://gpt2", "a model has two names, hf://org/name"],
      [["GS://bucket/model.safetensors"], "opens as s3://"],
      [{ 0: ["ftp://example.com/model.safetensors"] }, "the schemes are https, http, hf, s3 and file"],
      ["file://fileserver/model.safetensors", "a file: URL with a host"],
      [new URL(`file://fileserver${path}`), "a file: URL with a host"],
      [[path, path], `the file "${path}" is named twice`],
      [[path, new URL(`file://${path}`)], "is named twice"],
      [[path, `${folder}/./a.safetensors`], "is named twice, by"],
      [[folder, path], `is named twice, by "${folder}" and by "${path}"`],
    ];
    for (const [files, part] of cases) {
      await assertRejects(() => fastsafeOpen(files as Files), TypeError, part);
    }
  });

  test("fastsafeOpen() opens a name with a bare % by its URL", async (folder) => {
    const path = `${folder}/100%.safetensors`;
    const tensors = await writeFile(path, FIRST);
    for (const files of [new URL(`file://${path}`), `file://${path}`, `file://localhost${path}`]) {
      await assertOpens(files, tensors);
    }
  });

  test("fastsafeOpen() explains probable mistakes in a name that does not exist", async (folder) => {
    const cases: [string, string][] = [
      ["-", "standard input"],
      ["~/models/llama", "only a shell"],
      [`${folder}/*.safetensors`, "patterns of names"],
      [`${folder}/model-0000[12].safetensors`, "patterns of names"],
      ["openai-community/gpt2", 'open "hf://openai-community/gpt2"'],
      ["meta-llama/Llama-3.2-1B", 'open "hf://meta-llama/Llama-3.2-1B"'],
      ["hf:org/name", "two slashes are missing: hf://org/name"],
      [`${folder}/missing.safetensors`, "(ENOENT)"],
    ];
    for (const [path, part] of cases) {
      const error = await assertRejects(() => fastsafeOpen(path), ReadError, part);
      assertEquals([error.path, error.errno], [path, 2]);
    }
  });

  test("fastsafeOpen() names the missing file", async (folder) => {
    const path = `${folder}/model.safetensors`;
    for (const files of [path, [path], { 0: path }]) {
      const error = await assertRejects(() => fastsafeOpen(files), ReadError, "ENOENT");
      assertEquals([error.path, error.errno], [path, 2]);
    }
    await Deno.symlink("../blobs/gone", path);
    for (const files of [path, [path], { 0: path }, folder]) {
      const error = await assertRejects(() => fastsafeOpen(files), ReadError, "download it again");
      assertEquals([error.path, error.errno], [path, 2]);
      assert(error.message.includes('a link to "../blobs/gone", which does not exist'));
    }
  });

  test("fastsafeOpen() reads only the tensors in a set of names", async (folder) => {
    const { tensors } = await writeShards(folder, [FIRST, SECOND]);
    const [bias, head] = [tensors[1]!, tensors[2]!];
    await using model = await fastsafeOpen(folder, { names: new Set(["head.weight", "bias"]) });
    assertEquals(model.keys(), ["bias", "head.weight"]);
    assertEquals([model.has("bias"), model.has("ids"), model.has("x")], [true, false, false]);
    assertTensor(await model.getTensor("bias"), bias);
    assertTensor(await model.getTensor("head.weight"), head);
    await model.whenLoaded();
    assertEquals(model.stats().bytes, bias.bytes.byteLength + head.bytes.byteLength);
    for (
      const act of [
        () => model.getTensor("ids"),
        () => model.getSlice("ids", 0),
        () => model.getSharded("ids", 0),
      ]
    ) {
      const error = await assertRejects(act, SafeTensorsError, 'tensor "ids"');
      assertEquals([error.code, error.tensor], ["TensorNotFound", "ids"]);
    }
    await assertRejects(() => model.getTensor("x"), SafeTensorsError, 'tensor "x"');
  });

  test("fastsafeOpen() accepts names as a list, as a function, and an empty list", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [...FIRST, ...SECOND]);
    const asked: string[] = [];
    const byFunction = (name: string) => asked.push(name) > 0 && name.endsWith(".weight");
    for (
      const [names, expected] of [
        [["ids", "bias", "ids"], ["bias", "ids"]],
        [byFunction, ["embed.weight", "head.weight"]],
        [[], []],
        [() => false, []],
      ] as const
    ) {
      await using model = await fastsafeOpen(path, { names });
      assertEquals<readonly string[]>(model.keys(), expected);
      const seen: string[] = [];
      for await (const [name] of model) seen.push(name);
      assertEquals(seen.sort(), [...expected].sort());
    }
    assertEquals(asked, ["embed.weight", "bias", "head.weight", "ids"]);
  });

  test("fastsafeOpen() rejects a name that no file has", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, FIRST);
    const error = await assertRejects(
      () => fastsafeOpen(path, { names: ["bias", "missing"] }),
      SafeTensorsError,
      '"missing"',
    );
    assertEquals(error.code, "TensorNotFound");
  });

  test("SafeTensorsModel returns names, summaries and metadata without reading tensors", async (folder) => {
    const first = `${folder}/a.safetensors`, second = `${folder}/b.safetensors`;
    await writeFile(first, FIRST, { metadata: { format: "pt", __proto__x: "é" } });
    await writeFile(second, SECOND);
    await using model = await fastsafeOpen([first, second], { lazy: true });
    const ids = { name: "ids", dtype: "I64", shape: [3], byteLength: 24, path: second } as const;
    assertEquals(model.info("ids"), { ...ids, targetDtype: "I64", targetShape: [3] });
    assertEquals(model.files(), [first, second]);
    assertEquals([model.metadata(first), model.metadata(second)], [{ format: "pt", __proto__x: "é" }, {}]);
    assertEquals(model.stats().bytes, 0);
    const error = await assertRejects(async () => await model.info("x"), SafeTensorsError);
    assertEquals([error.code, error.tensor], ["TensorNotFound", "x"]);
  });

  test("info() returns the dtype after the cast, and the target of an alias", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [
      { name: "a", dtype: "BF16", shape: [4, 2] },
      { name: "n", dtype: "I32", shape: [2] },
    ], { metadata: { tied: "a" } });
    const group = { rank: 1, size: 2 } as ProcessGroup;
    const options = { dtype: "F32", restoreAliases: true, lazy: true } as const;
    await using model = await fastsafeOpen(path, { ...options, shardPlan: { a: 0 }, group });
    const a = { dtype: "BF16", shape: [4, 2], byteLength: 16, path, targetDtype: "F32", targetShape: [2, 2] };
    assertEquals(model.info("a"), { name: "a", ...a } as const as TensorSummary);
    const n = { name: "n", dtype: "I32", shape: [2], byteLength: 8, path } as const;
    assertEquals(model.info("n"), { ...n, targetDtype: "I32", targetShape: [2] });
    await using whole = await fastsafeOpen(path, { ...options, names: ["a", "tied"] });
    assertEquals([whole.info("a").aliasOf, whole.info("tied").aliasOf], [undefined, "a"]);
    await using alone = await fastsafeOpen(path, { ...options, names: ["tied"] });
    assertEquals(alone.info("tied").aliasOf, undefined);
  });
}
