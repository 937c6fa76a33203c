/**
 * Files in memory, and headers alone.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  deserialize,
  type DType,
  HostTensor,
  ReadError,
  readHeader,
  SafeTensorsError,
  serialize,
} from "../../mod.ts";
import { assertBytes, assertTensor, fileOf, noise, writeFile } from "../support/models.ts";
import { openDescriptors } from "../support/process.ts";
import type { DefineTest } from "./context.ts";
import { fastsafeOpen } from "./api_in_use.ts";
import { FIRST, SECOND } from "./two_files.ts";

export function inMemoryTests(test: DefineTest): void {
  test("deserialize() returns views, and copies of unaligned tensors", async (folder) => {
    for (const misalignment of [0, 1, 4]) {
      const { bytes, tensors } = fileOf([...FIRST, { name: "d", dtype: "F64", shape: [3] }, ...SECOND], {
        misalignment,
      });
      const read = deserialize(bytes);
      assertEquals([...read.keys()], ["q", "k", "ids", "d", "v", "none"]);
      for (const tensor of tensors) {
        assertTensor(read.get(tensor.name)!, tensor);
        assertEquals(read.get(tensor.name)!.data.byteLength, tensor.bytes.byteLength);
      }
      assertEquals(read.get("q")!.bytes.buffer === bytes.buffer, misalignment % 2 === 0);
      const path = `${folder}/${misalignment}.safetensors`;
      await Deno.writeFile(path, bytes);
      await using model = await fastsafeOpen(path);
      assertEquals(model.keys(), [...read.keys()]);
    }
    const inside = new Uint8Array(1000);
    const { bytes, tensors } = fileOf(FIRST);
    inside.set(bytes, 3);
    const read = deserialize(inside.subarray(3, 3 + bytes.byteLength));
    for (const tensor of tensors) assertTensor(read.get(tensor.name)!, tensor);
  });

  test("deserialize() makes views of an ArrayBuffer or of a view, and rejects other values", () => {
    const { bytes, tensors } = fileOf(FIRST);
    const whole = bytes.slice().buffer;
    for (const file of [whole, new DataView(whole), new Uint8ClampedArray(whole)]) {
      const read = deserialize(file);
      for (const tensor of tensors) assertTensor(read.get(tensor.name)!, tensor);
      assertEquals(read.get(tensors[0]!.name)!.bytes.buffer, whole);
    }
    for (const file of ["model.safetensors", [1, 2], null]) {
      assertThrows(
        () => deserialize(file as never),
        TypeError,
        "file must be an ArrayBuffer, a view of one, a Blob or a Response, got",
      );
    }
  });

  test("deserialize() rejects truncated and too long files", () => {
    const { bytes } = fileOf(FIRST);
    const cases: [Uint8Array<ArrayBuffer>, string][] = [
      [new Uint8Array(), "HeaderTooSmall"],
      [bytes.slice(0, 7), "HeaderTooSmall"],
      [bytes.slice(0, 20), "InvalidHeaderLength"],
      [bytes.slice(0, -1), "MetadataIncompleteBuffer"],
      [new Uint8Array([...bytes, 0]), "MetadataIncompleteBuffer"],
      [new Uint8Array(100).fill(255), "HeaderTooLarge"],
    ];
    for (const [file, code] of cases) {
      assertEquals(assertThrows(() => deserialize(file), SafeTensorsError).code, code);
    }
  });

  test("fastsafeOpen() and deserialize() read the output of serialize()", async (folder) => {
    const data = noise(64, 9);
    const file = serialize(
      new Map(
        [
          ["b", { dtype: "F32", shape: [4, 4], data: new Float32Array(data.buffer) }],
          ["a", { dtype: "U8", shape: [], data: data.subarray(3, 4) }],
          ["none", { dtype: "I64", shape: [0, 2], data: new BigInt64Array() }],
        ] as const,
      ),
      { format: "pt" },
    );
    assertBytes(deserialize(file).get("b")!.bytes, data, "b");
    const path = `${folder}/a.safetensors`;
    await Deno.writeFile(path, file);
    await using model = await fastsafeOpen(path);
    assertEquals(model.keys(), ["none", "b", "a"]);
    assertEquals(model.metadata(path), { format: "pt" });
    assertBytes((await model.getTensor("b")).bytes, data, "b");
    assertBytes((await model.getTensor("a")).bytes, data.subarray(3, 4), "a");
    const again = serialize(deserialize(file), { format: "pt" });
    assertBytes(again, file, "a file written again");
    const error = assertThrows(
      () => serialize({ x: { dtype: "F32", shape: [3], data: new Float32Array(2) } }),
      SafeTensorsError,
      "12 bytes",
    );
    assertEquals([error.code, error.tensor], ["InvalidTensorView", "x"]);
  });

  test("deserialize() and readHeader() accept bytes of any kind, Blobs and Responses", async () => {
    const data = noise(40_000, 4);
    const bytes = serialize({ a: { dtype: "U8", shape: [40_000], data } }, { format: "pt" });
    const shifted = new Uint8Array(bytes.byteLength + 3);
    shifted.set(bytes, 3);
    const shared = new Uint8Array(new SharedArrayBuffer(bytes.byteLength));
    shared.set(bytes);
    const contents = [
      bytes,
      bytes.buffer,
      shifted.subarray(3),
      new DataView(bytes.buffer),
      shared,
      shared.buffer,
    ];
    for (const content of contents) {
      const file = deserialize(content);
      assertEquals([[...file.keys()], file.metadata], [["a"], { format: "pt" }]);
      assertBytes(file.get("a")!.bytes, data, "a");
      assertEquals((await readHeader(content)).dataLength, 40_000);
    }
    const chunked = () =>
      new Response(
        new ReadableStream({
          start(controller) {
            for (let at = 0; at < bytes.length; at += 7) controller.enqueue(bytes.subarray(at, at + 7));
            controller.close();
          },
        }),
      );
    for (const content of [() => new Blob([bytes]), () => new Response(bytes), chunked]) {
      const file = await deserialize(content());
      assertEquals([[...file.keys()], file.metadata], [["a"], { format: "pt" }]);
      assertBytes(file.get("a")!.bytes, data, "a");
      assertEquals((await readHeader(content())).tensors.get("a")!.shape, [40_000]);
    }
  });

  test("readHeader() reads no more of a response than the header, and names a failed one", async () => {
    const bytes = serialize({ a: { dtype: "U8", shape: [10_000_000], data: new Uint8Array(10_000_000) } });
    let sent = 0, cancelled = false;
    const body = new ReadableStream({
      pull(controller) {
        controller.enqueue(bytes.subarray(sent, sent += 1000));
      },
      cancel() {
        cancelled = true;
      },
    }, { highWaterMark: 0 });
    const response = new Response(body, { headers: { "content-length": String(bytes.length) } });
    assertEquals((await readHeader(response)).dataLength, 10_000_000);
    assert(sent <= 2000 && cancelled);
    const range = new Response(bytes.subarray(0, 4096), {
      status: 206,
      headers: { "content-range": `bytes 0-4095/${bytes.length}` },
    });
    assertEquals((await readHeader(range)).dataLength, 10_000_000);
    const short = new Response(bytes.subarray(0, 20), {
      headers: { "content-length": String(bytes.length) },
    });
    await assertRejects(() => readHeader(short), ReadError, "20 found");
    for (const call of [readHeader, deserialize] as ((file: Response) => Promise<unknown>)[]) {
      await assertRejects(
        () => call(new Response("no", { status: 404, statusText: "Not Found" })),
        ReadError,
        "404 Not Found",
      );
      const used = new Response(bytes);
      await used.bytes();
      await assertRejects(async () => await call(used), TypeError, "was read already");
      await assertRejects(
        async () => await call(new Response("<html>not a file</html>")),
        SafeTensorsError,
        "it is a web page or XML",
      );
    }
    await assertRejects(() => readHeader({} as never), TypeError, "got an object");
    await assertRejects(async () => await deserialize("x" as never), TypeError, 'got "x"');
  });

  test("readHeader() reads only the header", async (folder) => {
    const path = `${folder}/a.safetensors`;
    await writeFile(path, FIRST, { metadata: { a: "b" }, padding: 200_000 });
    const { tensors, metadata, dataStart, dataLength } = await readHeader(path);
    assertEquals([...tensors.keys()], ["q", "k", "ids"]);
    assertEquals([[...metadata], dataLength], [[["a", "b"]], 92]);
    assert(dataStart > 200_000);
    await Deno.truncate(path, 1000);
    const error = await assertRejects(() => readHeader(path), SafeTensorsError);
    assertEquals([error.code, error.path], ["InvalidHeaderLength", path]);
    await assertRejects(() => readHeader(`${folder}/missing`), ReadError, "ENOENT");
    const url = new URL(`file://${folder}/100%25.safetensors`);
    await writeFile(`${folder}/100%.safetensors`, FIRST);
    assertEquals([...(await readHeader(url)).tensors.keys()].length, FIRST.length);
    await assertRejects(() => readHeader(new URL("ftp://host/model.safetensors")), TypeError, "the schemes");
    await assertRejects(() => readHeader(5 as never), TypeError, "a path must be a string, got 5");
    assertEquals(openDescriptors(folder), 0);
  });

  test("HostTensor rejects bytes that do not match dtype and shape", () => {
    const cases: [DType, number[], number][] = [["F32", [2], 3], ["F32", [2], 12], ["F4", [3], 2], [
      "U8",
      [0],
      1,
    ]];
    for (const [dtype, shape, length] of cases) {
      const make = () => new HostTensor("x", dtype, shape, new Uint8Array(length));
      assertThrows(make, RangeError, `got ${length}`);
    }
    assertEquals(new HostTensor("x", "F6_E2M3", [4], new Uint8Array(3)).data.length, 3);
  });

  test("the shape of a tensor, and of its summary, cannot be changed", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [{ name: "x", dtype: "U8", shape: [2, 3] }]);
    const shape = [2];
    const given = new HostTensor("x", "U8", shape, new Uint8Array(2));
    shape[0] = 77;
    assertEquals(given.shape, [2]);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { lazy });
      const shapes = [
        (await model.getTensor("x")).shape,
        (await model.getSlice("x", 0)).shape,
        model.info("x").shape,
        given.shape,
        (await readHeader(path)).tensors.get("x")!.shape,
        deserialize(await Deno.readFile(path)).get("x")!.shape,
      ];
      for (const shape of shapes) assertThrows(() => (shape as number[])[0] = 77, TypeError);
    }
  });
}
