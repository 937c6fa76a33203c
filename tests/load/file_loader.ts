/**
 * The low-level API: a loader, and the buffer into which it loads files.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  type HostTensor,
  OutOfMemoryError,
  ReadError,
  SafeTensorsError,
  UseAfterCloseError,
} from "../../mod.ts";
import type { FilesBuffer } from "../../src/compat/mod.ts";
import { decode, encode } from "../support/floats.ts";
import { assertBytes, assertTensor, type TensorSpec, writeFile } from "../support/models.ts";
import { openDescriptors } from "../support/process.ts";
import type { DefineTest } from "./context.ts";
import { fastsafeOpen, ParallelLoader, SafeTensorsFileLoader } from "./api_in_use.ts";
import { FIRST, SECOND } from "./two_files.ts";

/** Opens both files in one buffer. */
async function openBuffer(folder: string, options: { dtype?: "F32" } = {}): Promise<FilesBuffer> {
  await using loader = new SafeTensorsFileLoader();
  await loader.addFilenames({ 0: [`${folder}/a.safetensors`] });
  await loader.addFilenames({ 0: `${folder}/b.safetensors` });
  return await loader.copyFilesToDevice(options);
}

export function fileLoaderTests(test: DefineTest): void {
  test("SafeTensorsFileLoader loads files into a FilesBuffer", async (folder) => {
    const a = await writeFile(`${folder}/a.safetensors`, FIRST);
    const b = await writeFile(`${folder}/b.safetensors`, SECOND);
    await using loader = new SafeTensorsFileLoader(null, { maxThreads: 2 });
    await loader.addFilenames({ 0: [`${folder}/a.safetensors`] });
    await loader.addFilenames({ 0: [`${folder}/b.safetensors`] });
    assertEquals(loader.getKeys(), ["q", "k", "ids", "v", "none"]);
    assertEquals(loader.getShape("v"), [4, 3]);
    const error = assertThrows(() => loader.getShape("x"), SafeTensorsError);
    assertEquals([error.code, error.tensor], ["TensorNotFound", "x"]);
    await using buffer = await loader.copyFilesToDevice();
    assertEquals(loader.getKeys(), []);
    assertEquals(buffer.getKeys(), ["q", "k", "ids", "v", "none"]);
    assertEquals(buffer.getShape("q"), [4, 6]);
    assertEquals([buffer.getFilename("q"), buffer.getFilename("v")], [
      `${folder}/a.safetensors`,
      `${folder}/b.safetensors`,
    ]);
    for (const tensor of [...a, ...b]) {
      assertTensor(await buffer.getTensor(tensor.name), tensor);
      assertTensor(await buffer.getSharded(tensor.name, 0), tensor);
      assertTensor((await buffer.pushTensor(tensor.name, 0))!, tensor);
    }
    const all = await buffer.asDict();
    assertEquals([...all.keys()], ["q", "k", "ids", "v", "none"]);
    for (const tensor of [...a, ...b]) assertTensor(all.get(tensor.name)!, tensor);
    const { files, tensors, bytes } = buffer.stats();
    assertEquals([files, tensors, bytes], [2, 5, 48 + 24 + 20 + 24]);
  });

  test("FilesBuffer joins tensors along a dimension", async (folder) => {
    const [q, k] = await writeFile(`${folder}/a.safetensors`, FIRST);
    const [v, none] = await writeFile(`${folder}/b.safetensors`, SECOND);
    await using buffer = await openBuffer(folder);
    const rows = await buffer.getMultiCols(["k", "q", "k"], 0);
    assertEquals([rows.dtype, rows.shape], ["F16", [8, 6]]);
    assertBytes(rows.bytes, new Uint8Array([...k!.bytes, ...q!.bytes, ...k!.bytes]), "rows");
    const columns = await buffer.getMultiCols(["v", "none", "q"], 1);
    assertEquals(columns.shape, [4, 9]);
    const expected = [0, 1, 2, 3].flatMap((row) => [
      ...v!.bytes.subarray(row * 6, row * 6 + 6),
      ...none!.bytes,
      ...q!.bytes.subarray(row * 12, row * 12 + 12),
    ]);
    assertBytes(columns.bytes, new Uint8Array(expected), "columns");
    assertEquals((await buffer.getMultiCols(["q"], 0)).shape, [4, 6]);
    for (
      const [names, dimension] of [[["q", "v"], 0], [["q", "k"], 1], [["q", "ids"], 0], [[], 0]] as const
    ) {
      await assertRejects(() => buffer.getMultiCols(names, dimension), TypeError);
    }
    await assertRejects(() => buffer.getMultiCols(["q", "q"], 2), RangeError);
    const error = await assertRejects(() => buffer.getMultiCols(["q", "x"], 0), SafeTensorsError);
    assertEquals(error.code, "TensorNotFound");
  });

  test("FilesBuffer does not cut a byte of a sub-byte dtype", async (folder) => {
    await writeFile(`${folder}/a.safetensors`, [
      { name: "thin", dtype: "F4", shape: [2, 1] },
      { name: "wide", dtype: "F4", shape: [2, 3] },
    ]);
    await writeFile(`${folder}/b.safetensors`, [{ name: "even", dtype: "F4", shape: [2, 4] }]);
    await using buffer = await openBuffer(folder);
    const error = await assertRejects(() => buffer.getMultiCols(["thin", "wide"], 1), SafeTensorsError);
    assertEquals(error.code, "MisalignedSlice");
    assertEquals((await buffer.getMultiCols(["thin", "thin"], 0)).shape, [4, 1]);
    assertEquals((await buffer.getMultiCols(["even", "even"], 1)).byteLength, 8);
  });

  test("FilesBuffer returns several tensors in one call, whole or this rank's part", async (folder) => {
    await writeFile(`${folder}/a.safetensors`, FIRST);
    await writeFile(`${folder}/b.safetensors`, SECOND);
    await using buffer = await openBuffer(folder);
    const some = await buffer.asDict({ q: 1, k: -1, ids: null });
    assertEquals([...some].map(([name, { shape }]) => [name, shape]), [["q", [4, 6]], ["k", [2, 6]], ["ids", [
      5,
    ]]]);
    await assertRejects(() => buffer.asDict({ q: 2 }), RangeError);
    await assertRejects(() => buffer.asDict({ x: 0 }), SafeTensorsError);
    for (const rank of [1, -1, 0.5, NaN]) await assertRejects(() => buffer.pushTensor("q", rank), RangeError);
    for (const dimension of [2, -1, 0.5]) {
      await assertRejects(() => buffer.getSharded("q", dimension), RangeError);
    }
  });

  test("FilesBuffer casts", async (folder) => {
    const [q] = await writeFile(`${folder}/a.safetensors`, [
      { name: "q", dtype: "F16", shape: [2], bytes: encode([1.5, -2], "F16") },
      { name: "n", dtype: "I64", shape: [2] },
    ]);
    await writeFile(`${folder}/b.safetensors`, SECOND);
    await using buffer = await openBuffer(folder, { dtype: "F32" });
    assertEquals((await buffer.getTensor("q")).data, new Float32Array(decode(q!.bytes, "F16")));
    assertEquals((await buffer.getTensor("n")).dtype, "I64");
  });

  test("FilesBuffer returns no tensors after close()", async (folder) => {
    const [q] = await writeFile(`${folder}/a.safetensors`, FIRST);
    await writeFile(`${folder}/b.safetensors`, SECOND);
    const buffer = await openBuffer(folder);
    const kept = await buffer.getTensor("q");
    await buffer.close();
    await buffer.close();
    const acts: (() => Promise<unknown>)[] = [
      () => buffer.getTensor("q"),
      () => buffer.getSharded("q", 0),
      () => buffer.pushTensor("q", 0),
      () => buffer.getMultiCols(["q"], 0),
      () => buffer.asDict(),
    ];
    for (const act of acts) await assertRejects(act, UseAfterCloseError, "closed");
    assertTensor(kept, q!);
  });

  test("SafeTensorsFileLoader closes files that no buffer owns", async (folder) => {
    await writeFile(`${folder}/a.safetensors`, FIRST);
    await writeFile(`${folder}/b.safetensors`, SECOND);
    const loader = new SafeTensorsFileLoader();
    await loader.addFilenames({ 0: [`${folder}/a.safetensors`] });
    assert(openDescriptors(folder) > 0);
    await loader.reset();
    assertEquals([openDescriptors(folder), loader.getKeys()], [0, []]);
    await loader.addFilenames({ 0: [`${folder}/b.safetensors`] });
    await using buffer = await loader.copyFilesToDevice();
    const adding = loader.addFilenames({ 0: [`${folder}/a.safetensors`] });
    await loader.close();
    await assertRejects(() => adding, UseAfterCloseError); // closed while it was opening files
    assertEquals((await buffer.getTensor("v")).shape, [4, 3]);
    await buffer.close();
    assertEquals(openDescriptors(folder), 0);
    await assertRejects(() => loader.addFilenames({ 0: [`${folder}/a.safetensors`] }), UseAfterCloseError);
    await assertRejects(() => loader.copyFilesToDevice(), UseAfterCloseError);
  });

  test("SafeTensorsFileLoader rejects a duplicate name and keeps its files", async (folder) => {
    const a = await writeFile(`${folder}/a.safetensors`, FIRST);
    await writeFile(`${folder}/b.safetensors`, [...SECOND, FIRST[1]!]);
    await using loader = new SafeTensorsFileLoader();
    await loader.addFilenames({ 0: [`${folder}/a.safetensors`] });
    const error = await assertRejects(
      () => loader.addFilenames({ 0: [`${folder}/b.safetensors`] }),
      SafeTensorsError,
    );
    assertEquals([error.code, error.tensor], ["DuplicateName", "k"]);
    await assertRejects(() => loader.addFilenames({ 0: [`${folder}/missing`] }), ReadError);
    await using buffer = await loader.copyFilesToDevice();
    for (const tensor of a) assertTensor(await buffer.getTensor(tensor.name), tensor);
  });

  test("SafeTensorsFileLoader creates two buffers in parallel", async (folder) => {
    const a = await writeFile(`${folder}/a.safetensors`, FIRST);
    const b = await writeFile(`${folder}/b.safetensors`, SECOND);
    await using loader = new SafeTensorsFileLoader();
    await loader.addFilenames({ 0: [`${folder}/a.safetensors`] });
    const first = loader.copyFilesToDevice();
    const adding = loader.addFilenames({ 0: [`${folder}/b.safetensors`] });
    await using bufferA = await first;
    await adding;
    await using bufferB = await loader.copyFilesToDevice();
    for (const tensor of a) assertTensor(await bufferA.getTensor(tensor.name), tensor);
    for (const tensor of b) assertTensor(await bufferB.getTensor(tensor.name), tensor);
  });

  test("SafeTensorsFileLoader can be closed during copyFilesToDevice()", async (folder) => {
    const a = await writeFile(`${folder}/a.safetensors`, FIRST);
    const loader = new SafeTensorsFileLoader();
    await loader.addFilenames({ 0: [`${folder}/a.safetensors`] });
    const copying = loader.copyFilesToDevice();
    await loader.close();
    await using buffer = await copying;
    for (const tensor of a) assertTensor(await buffer.getTensor(tensor.name), tensor);
  });

  test("SafeTensorsFileLoader creates an empty buffer without files", async () => {
    await using loader = new SafeTensorsFileLoader();
    await using buffer = await loader.copyFilesToDevice();
    assertEquals([buffer.getKeys(), (await buffer.asDict()).size], [[], 0]);
  });

  test("a tensor larger than the memory is rejected before any read", async (folder) => {
    const path = `${folder}/a.safetensors`;
    const TERABYTES = 10 * 2 ** 40;
    const specs: TensorSpec[] = [
      { name: "huge", dtype: "U8", shape: [TERABYTES], bytes: new Uint8Array() },
      { name: "small", dtype: "U8", shape: [4], bytes: new Uint8Array() },
    ];
    const json = JSON.stringify(Object.fromEntries(specs.map(({ name, dtype, shape }, index) => {
      return [name, { dtype, shape, data_offsets: index ? [TERABYTES, TERABYTES + 4] : [0, TERABYTES] }];
    })));
    const head = new Uint8Array(8 + json.length);
    new DataView(head.buffer).setBigUint64(0, BigInt(json.length), true);
    new TextEncoder().encodeInto(json, head.subarray(8));
    await Deno.writeFile(path, head);
    await Deno.truncate(path, head.byteLength + TERABYTES + 4); // sparse: it uses no disk space
    const error = await assertRejects(() => fastsafeOpen(path), OutOfMemoryError, "lazy: true");
    assert(error.requested >= TERABYTES && error.free > 0 && error.free < TERABYTES);
    assertEquals(openDescriptors(folder), 0);
    await using model = await fastsafeOpen(path, { lazy: true });
    await assertRejects(() => model.getTensor("huge"), OutOfMemoryError);
    assertEquals((await model.getTensor("small")).bytes, new Uint8Array(4));
    assertEquals((await model.getSlice("huge", [TERABYTES - 5, null])).bytes, new Uint8Array(5));
    await using loader = new SafeTensorsFileLoader();
    await loader.addFilenames({ 0: path });
    await assertRejects(() => loader.copyFilesToDevice(), OutOfMemoryError);
    assertEquals(loader.getKeys(), ["huge", "small"]);
  });

  test("restoreAliases has the same effect for every way to load", async (folder) => {
    const path = `${folder}/a.safetensors`;
    const [embed, other] = await writeFile(path, [
      { name: "embed", dtype: "U8", shape: [100_000] },
      { name: "other", dtype: "U8", shape: [10] },
    ], { metadata: { lm_head: "embed", format: "pt" } });
    await writeFile(`${folder}/b.safetensors`, [{ name: "more", dtype: "U8", shape: [1] }], {
      metadata: { tied: "other", lm_head: "more" },
    });
    const expected = new Map([["embed", embed!], ["other", other!], ["lm_head", {
      ...embed!,
      name: "lm_head",
    }]]);
    const check = (tensors: Iterable<readonly [string, HostTensor]>) => {
      const given = new Map(tensors);
      assertEquals([...given.keys()].sort(), [...expected.keys()].sort());
      for (const [name, tensor] of expected) assertTensor(given.get(name)!, tensor);
    };
    const options = { restoreAliases: true };
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { ...options, lazy });
      check(await Array.fromAsync(model));
      assertEquals(model.info("lm_head").aliasOf, "embed");
    }
    check(await Array.fromAsync(new ParallelLoader(null, path, options).iterateWeights()));
    await using loader = new SafeTensorsFileLoader(null, options);
    await loader.addFilenames({ 0: path });
    assertEquals(loader.getKeys().sort(), ["embed", "lm_head", "other"]);
    assertEquals(loader.getShape("lm_head"), [100_000]);
    await using buffer = await loader.copyFilesToDevice();
    check(await buffer.asDict());
    // With several files: a name that a file has is a tensor, not an alias, in whichever file the alias target is.
    await loader.addFilenames({ 0: `${folder}/b.safetensors` });
    assertEquals(loader.getKeys(), ["more", "lm_head"]);
    await loader.addFilenames({ 0: path });
    assertEquals(loader.getKeys(), ["more", "embed", "other", "tied", "lm_head"]);
  });

  test("after a failed copy the loader owns the files again, and checks them against files that were added meanwhile", async (folder) => {
    const [a, b] = [`${folder}/a.safetensors`, `${folder}/b.safetensors`];
    await writeFile(a, [{ name: "x", dtype: "U8", shape: [4] }]);
    await writeFile(b, [{ name: "x", dtype: "U8", shape: [5] }]);
    const controller = new AbortController();
    const loader = new SafeTensorsFileLoader(null, { signal: controller.signal });
    await loader.addFilenames({ 0: a });
    for (const dtype of ["I32", "F16"] as const) { // rejected at once; or ended by the signal below; or completed
      const copy = loader.copyFilesToDevice({ dtype: dtype as "F16" });
      const added = loader.addFilenames({ 0: b });
      if (dtype === "F16") controller.abort();
      const [copied, second] = await Promise.allSettled([copy, added]);
      if (copied.status === "fulfilled") await copied.value.close();
      const keys = loader.getKeys();
      assert(keys.length <= 1 && new Set(keys).size === keys.length);
      if (dtype === "F16") break;
      assertEquals([copied.status, second.status, loader.getShape("x")], ["rejected", "rejected", [4]]);
    }
    await loader.close();
    assertEquals(openDescriptors(folder), 0);
  });
}
