/**
 * Tensors in host memory: handles, descriptions and moves.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  fastsafeOpen,
  HostTensor,
  loadFile,
  ReadError,
  readHeader,
  serialize,
  UseAfterCloseError,
} from "../../mod.ts";
import "../support/open_library.ts";

function halves(): HostTensor<"F16"> {
  return HostTensor.from({ name: "h", shape: [2], data: new Float16Array([1.5, -2]) });
}

Deno.test("the data of a tensor is made once, over the same memory as its bytes", () => {
  const tensor = halves();
  assert(tensor.data === tensor.data);
  assert(tensor.data.buffer === tensor.bytes.buffer);
  tensor.data[0] = 3;
  assertEquals([...tensor.bytes], [0, 0x42, 0, 0xc0]);
});

Deno.test("a disposed tensor throws, and others over its memory stay valid", async () => {
  const tensor = halves();
  const { data } = tensor;
  const other = await tensor.copyToHost();
  tensor[Symbol.dispose]();
  tensor[Symbol.dispose]();
  assertEquals([...data], [1.5, -2]);
  assertEquals([...other.data], [1.5, -2]);
  const message = 'Cannot use tensor "h": it was disposed';
  assertThrows(() => tensor.data, UseAfterCloseError, message);
  assertThrows(() => tensor.bytes, UseAfterCloseError, message);
  assertThrows(() => tensor.toFloat32(), UseAfterCloseError, message);
  assertThrows(() => tensor.named("x"), UseAfterCloseError, message);
  for (
    const call of [
      () => tensor.copy(),
      () => tensor.copyToHost(),
      () => tensor.to({ dtype: "F32" }),
      () => tensor.to({}),
    ]
  ) {
    await assertRejects(call, UseAfterCloseError, message);
  }
});

Deno.test("a model returns a tensor again after a handle of it was disposed", async () => {
  const path = await Deno.makeTempFile({ suffix: ".safetensors" });
  const data = new Float32Array([1, 2]);
  await Deno.writeFile(path, serialize({ w: { dtype: "F32", shape: [2], data } }));
  for (const lazy of [false, true]) {
    await using model = await fastsafeOpen(path, { lazy });
    for (let round = 0; round < 3; round++) {
      using tensor = await model.getTensor("w");
      assertEquals(tensor.as("F32").data, data);
    }
    for await (const [, tensor] of model) tensor[Symbol.dispose]();
    assertEquals((await model.getTensor("w", { device: "cpu" })).as("F32").data, data);
  }
  await Deno.remove(path);
});

Deno.test("to() returns another handle over the same memory if nothing changes", async () => {
  const tensor = halves();
  const other = await tensor.to({ device: "cpu", dtype: "F16" });
  assert(other !== tensor && other.bytes.buffer === tensor.bytes.buffer);
  await assertRejects(() => tensor.to({ dtpye: "F32" } as never), TypeError, "did you mean dtype?");
  await assertRejects(() => tensor.to({ device: "gpu" as never }), TypeError, '"webgpu"');
});

Deno.test("console.log of a tensor shows its dtype, its shape and its first elements", () => {
  const numbers = HostTensor.from({
    name: "n",
    shape: [2, 4],
    data: new Int32Array([1, 2, 3, 4, 5, 6, 7, 8]),
  });
  const line = 'HostTensor "n": I32 [2, 4], 32 bytes, 1, 2, 3, 4, 5, 6, …';
  assertEquals([Deno.inspect(numbers), Deno.inspect([halves()])], [
    line,
    '[ HostTensor "h": F16 [2], 4 bytes, 1.5, -2 ]',
  ]);
  const bits = HostTensor.from({ name: "b", dtype: "BF16", data: new Uint16Array([0x3f80]) });
  assertEquals(Deno.inspect(bits), 'HostTensor "b": BF16 [1], 2 bytes, 1');
  const ids = HostTensor.from({ name: "i", data: new BigInt64Array([2n ** 60n]) });
  assertEquals(Deno.inspect(ids), 'HostTensor "i": I64 [1], 8 bytes, 1152921504606846976n');
  ids[Symbol.dispose]();
  assertEquals(Deno.inspect(ids), 'HostTensor "i": I64 [1], 8 bytes, disposed');
});

Deno.test("JSON.stringify of a tensor gives a description without its elements", () => {
  assertEquals(JSON.parse(JSON.stringify(halves())), {
    name: "h",
    dtype: "F16",
    shape: [2],
    byteLength: 4,
    device: "cpu",
  });
});

Deno.test("console.log of a model shows how many tensors and files it has, and its device", async () => {
  const path = await Deno.makeTempFile({ suffix: ".safetensors" });
  await Deno.writeFile(path, serialize({ a: { dtype: "U8", shape: [1], data: new Uint8Array(1) } }));
  await using model = await fastsafeOpen(path);
  assertEquals(Deno.inspect(model), 'SafeTensorsModel: 1 tensor of 1 file, on "cpu"');
  await Deno.remove(path);
});

Deno.test("loadFile() returns all tensors in file order, or those that the option names selects", async () => {
  const path = await Deno.makeTempFile({ suffix: ".safetensors" });
  const names = ["b", "a", "__proto__", "c.weight"];
  const tensors = new Map(names.map((name, index) => {
    return [name, HostTensor.from({ name, dtype: "BF16", data: new Uint16Array([0x3f80 + index]) })] as const;
  }));
  await Deno.writeFile(path, serialize(tensors));
  const open = new Set(Deno.readDirSync("/proc/self/fd").map(({ name }) => name));
  const all = await loadFile(path);
  assertEquals(Object.keys(all), [...(await readHeader(path)).tensors.keys()]);
  for (const [name, { data }] of tensors) {
    assertEquals(Object.getOwnPropertyDescriptor(all, name)?.value.data, data);
  }
  const some = await loadFile(path, { names: "*.weight", dtype: "F32", lazy: true });
  assertEquals(Object.entries(some).map(([name, tensor]) => [name, ...tensor.as("F32").data]), [[
    "c.weight",
    1.0234375,
  ]]);
  assertEquals(
    new Set(Deno.readDirSync("/proc/self/fd").map(({ name }) => name)).size <= open.size + 1,
    true,
  );
  await assertRejects(() => loadFile(`${path}.no`), ReadError, "no such file");
  await Deno.remove(path);
});
