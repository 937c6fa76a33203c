/**
 * Programs that must compile, and lines that must not: `deno check` fails if a line below `@ts-expect-error` compiles.
 * The tests run what compiles.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  type CudaTensor,
  type DeviceOption,
  type DType,
  fastsafeOpen,
  type FloatDType,
  HostTensor,
  isDevice,
  isDType,
  isFloatDType,
  type LoadedTensor,
  type OpenOptions,
  quantize,
  type SafeTensorsModel,
  saveFile,
  serialize,
  type Tensor,
  type TensorOn,
  type WebGpuTensor,
} from "../mod.ts";
import "./support/open_library.ts";

/** Compiles only if both types are the same. */
function same<A, B>(
  _same: (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false,
) {}

/** A file with floats, integers and bits of BF16. */
async function writeModel(): Promise<string> {
  const path = await Deno.makeTempFile({ suffix: ".safetensors" });
  await Deno.writeFile(
    path,
    serialize({
      f: { dtype: "F32", shape: [2], data: new Float32Array([1, 2]) },
      b: { dtype: "BF16", shape: [2], data: new Uint16Array([0x3f80, 0x4000]) },
      i: { dtype: "I64", shape: [1], data: new BigInt64Array([7n]) },
    }),
  );
  return path;
}

function cosine(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, index) => sum + value * b[index]!, 0);
}

Deno.test("the dtype of a tensor narrows the type of its data", async () => {
  const path = await writeModel();
  await using model = await fastsafeOpen(path);
  const tensor = await model.getTensor("f");
  same<typeof tensor, HostTensor>(true);
  // @ts-expect-error the tensor can have any dtype
  const _unknown: Float32Array = tensor.data;
  if (tensor.dtype !== "F32") throw new Error("F32 expected");
  const data: Float32Array<ArrayBuffer> = tensor.data;
  assertEquals(cosine(data, data), 5);
  assertEquals(tensor.data[0]! * 2, 2);
  const whole = await model.getTensor("i");
  if (whole.dtype === "I64") assertEquals(whole.data[0]! + 1n, 8n);
  // @ts-expect-error a float has no bigints
  if (whole.dtype === "F32") assertEquals(whole.data[0] + 1n, 8n);
  await Deno.remove(path);
});

Deno.test("as() narrows a tensor or throws a TypeError", async () => {
  const path = await writeModel();
  await using model = await fastsafeOpen(path, { dtype: "F32" });
  const data: Float32Array = (await model.getTensor("b")).as("F32").data;
  assertEquals([...data], [1, 2]);
  const whole = await model.getTensor("i");
  assertThrows(() => whole.as("F32"), TypeError, 'Cannot use tensor "i" as "F32": it is I64');
  // @ts-expect-error not a dtype
  assertThrows(() => whole.as("float32"), TypeError);
  await Deno.remove(path);
});

Deno.test("the option dtype of fastsafeOpen() and getTensor() is in the type of the tensors", async () => {
  const path = await writeModel();
  await using model = await fastsafeOpen(path, { dtype: "F32" });
  const tensor = await model.getTensor("b");
  // After the cast no tensor is F64, F16, BF16 or F8; those that are not cast stay.
  same<Extract<typeof tensor.dtype, FloatDType>, "F32">(true);
  same<Extract<typeof tensor.dtype, "I64" | "F4">, "I64" | "F4">(true);
  // @ts-expect-error F16 is not possible after the cast
  if (tensor.dtype === "F16") throw new Error();
  const half = await model.getTensor("f", { dtype: "F16" });
  same<typeof half, HostTensor<"F16">>(true);
  const halves: Float16Array = half.data;
  assertEquals([...halves], [1, 2]);
  const cast = await half.to({ dtype: "F64" });
  const doubles: Float64Array = cast.data;
  assertEquals([...doubles], [1, 2]);
  // @ts-expect-error integers are not a dtype that floats are cast to
  await assertRejects(() => fastsafeOpen(path, { dtype: "I32" }), TypeError);
  await Deno.remove(path);
});

Deno.test("options and models of any device pass through functions without casts", async () => {
  const open = (files: string, options: OpenOptions) => fastsafeOpen(files, options);
  const openCpu = (files: string, options: OpenOptions<"cpu"> = {}) => fastsafeOpen(files, options);
  const count = (model: SafeTensorsModel<Tensor>) => model.keys().length;
  const onHost = async (model: SafeTensorsModel<TensorOn>): Promise<Float32Array> => {
    return (await (await model.getTensor("f")).copyToHost()).toFloat32();
  };
  const path = await writeModel();
  const options: OpenOptions = { device: "cpu", lazy: true };
  await using any = await open(path, options);
  same<typeof any, SafeTensorsModel<TensorOn>>(true);
  assertEquals([count(any), [...await onHost(any)]], [3, [1, 2]]);
  await using onCpu = await openCpu(path);
  assertEquals([count(onCpu), [...await onHost(onCpu)]], [3, [1, 2]]);
  const needsHost = (_model: SafeTensorsModel) => {};
  needsHost(onCpu);
  // @ts-expect-error its tensors can be on a GPU
  needsHost(any);
  await Deno.remove(path);
});

Deno.test("the option device is in the type of the tensors", () => {
  // Not called: this machine does not have to have the devices.
  const _compiled = async (path: string, device: DeviceOption, name: string) => {
    const cuda = await (await fastsafeOpen(path, { device: "cuda:1" })).getTensor("f");
    same<typeof cuda, CudaTensor>(true);
    const gpu = await (await fastsafeOpen(path, { device: "webgpu" })).getTensor("f");
    same<typeof gpu, WebGpuTensor>(true);
    const moved = await gpu.to({ device: "cuda", dtype: "F16" });
    same<typeof moved, CudaTensor>(true);
    const host = await gpu.to({ device: "cpu", dtype: "F32" });
    same<typeof host, HostTensor<"F32">>(true);
    for (const tensor of [cuda, gpu, host]) {
      using _copy = await tensor.copy();
      const { bytes } = await tensor.copyToHost();
      same<typeof bytes, Uint8Array<ArrayBuffer>>(true);
    }
    const slice = await (await fastsafeOpen(path)).getSlice("f", [0, 1], { device: "webgpu" });
    same<typeof slice, WebGpuTensor>(true);
    const anywhere = await (await fastsafeOpen(path, { device })).getTensor("f");
    same<typeof anywhere, TensorOn>(true);
    // @ts-expect-error a name of a device is wanted: isDevice() tests one
    await fastsafeOpen(path, { device: name });
    if (isDevice(name)) await fastsafeOpen(path, { device: name });
    // @ts-expect-error data is of the host only
    return gpu.data;
  };
  const candidates = [
    "cpu",
    "cuda",
    "cuda:7",
    "webgpu",
    "gpu",
    "cuda:",
    "cuda:x",
    "CPU",
    0,
    null,
    undefined,
    {},
  ];
  assertEquals(candidates.filter(isDevice), ["cpu", "cuda", "cuda:7", "webgpu"]);
  assertEquals(["F32", "f32", "I64", "F8_E4M3", "F4", "C64", 1].filter(isDType), [
    "F32",
    "I64",
    "F8_E4M3",
    "F4",
    "C64",
  ]);
  assertEquals(["F32", "f32", "I64", "F8_E4M3", "F4", "C64", 1].filter(isFloatDType), ["F32", "F8_E4M3"]);
});

Deno.test("serialize() accepts the typed array of the dtype, or bytes, and no other array", () => {
  serialize({ a: { dtype: "F32", shape: [1], data: new Float32Array(1) } });
  serialize({ a: { dtype: "BF16", shape: [1], data: new Uint16Array(1) } });
  serialize({ a: { dtype: "F16", shape: [1], data: new Uint16Array(1) } });
  const dtype = "I32" as DType;
  serialize({ a: { dtype, shape: [1], data: new Uint8Array(4) } });
  // @ts-expect-error the elements of an Int32Array are not floats
  assertThrows(() => serialize({ a: { dtype: "F32", shape: [1], data: new Int32Array(1) } }), TypeError);
  // @ts-expect-error bits of F16 are not those of BF16
  assertThrows(() => serialize({ a: { dtype: "BF16", shape: [1], data: new Float16Array(1) } }), TypeError);
});

Deno.test("HostTensor.from() takes the dtype from the typed array", async () => {
  const cases: [ArrayBufferView, DType][] = [
    [new Int8Array(1), "I8"],
    [new Uint8Array(1), "U8"],
    [new Int16Array(1), "I16"],
    [new Uint16Array(1), "U16"],
    [new Float16Array(1), "F16"],
    [new Int32Array(1), "I32"],
    [new Uint32Array(1), "U32"],
    [new Float32Array(1), "F32"],
    [new Float64Array(1), "F64"],
    [new BigInt64Array(1), "I64"],
    [new BigUint64Array(1), "U64"],
  ];
  for (const [data, dtype] of cases) {
    const tensor = HostTensor.from({ data: data as Uint8Array });
    assertEquals([tensor.dtype as DType, [...tensor.shape], tensor.name], [dtype, [1], ""]);
    assert(tensor.bytes.buffer === data.buffer);
  }
  const floats = HostTensor.from({ name: "w", shape: [1, 2], data: new Float32Array([1, 2]) });
  same<typeof floats, HostTensor<"F32">>(true);
  assertEquals((await floats.to({ dtype: "BF16" })).data, new Uint16Array([0x3f80, 0x4000]));
  const bits = HostTensor.from({ dtype: "BF16", data: new Uint16Array([0x3f80, 0x4000]) });
  same<typeof bits, HostTensor<"BF16">>(true);
  assertEquals([...bits.toFloat32()], [1, 2]);
  assertThrows(
    () => HostTensor.from({ shape: [3], data: new Float32Array(2) }),
    RangeError,
    "12 bytes, got 8",
  );
  assertThrows(() => HostTensor.from({ data: [1, 2] as never }), TypeError, "data must be a typed array");
  assertThrows(
    () => HostTensor.from({ data: new DataView(new ArrayBuffer(4)) }),
    TypeError,
    "needs the option dtype",
  );
  assertThrows(
    // @ts-expect-error not the array of the dtype
    () => HostTensor.from({ dtype: "F32", data: new Int32Array(1) }),
    TypeError,
    "F32 wants a Float32Array",
  );
  assertThrows(
    () => HostTensor.from({ dtype: "float" as never, data: new Uint8Array(4) }),
    TypeError,
    "is not a dtype of the format",
  );
});

Deno.test("map of saveFile() gets the tensors of its input, and returns what can be saved", async () => {
  const path = await writeModel();
  await using model = await fastsafeOpen(path, { dtype: "F32" });
  const target = await Deno.makeTempFile();
  const options = { overwrite: true, maxShardBytes: "5GB" } as const;
  await saveFile(model, target, {
    ...options,
    map: async (name, tensor) => {
      same<typeof tensor, LoadedTensor<"cpu", "F32">>(true);
      if (tensor.dtype === "F32") return await tensor.to({ dtype: "F16" });
      return name === "i" ? { [`${name}.ids`]: tensor } : null;
    },
  });
  await saveFile({ x: { dtype: "F32", shape: [1], data: new Float32Array(1) } as const }, target, {
    ...options,
    map: (_name, tensor) => ({ ...tensor, data: tensor.data.map((value) => value + 1) }),
  });
  // @ts-expect-error a string is not a tensor
  await assertRejects(() => saveFile(model, target, { ...options, map: (name) => name }), TypeError);
  await Deno.remove(path);
  await Deno.remove(target);
});

Deno.test("quantize() and casts of integers have their dtype in their type", async () => {
  const w = HostTensor.from({ shape: [1, 2], data: new Float32Array([1, 2]) });
  const { weight, scale } = await quantize(w);
  same<typeof weight, HostTensor<"F8_E4M3">>(true);
  same<typeof scale, HostTensor<"F32">>(true);
  const other = await quantize(w, { dtype: "F8_E5M2", scale: "row" });
  same<typeof other.weight, HostTensor<"F8_E5M2">>(true);
  // @ts-expect-error not a dtype of 8 bits
  await assertRejects(() => quantize(w, { dtype: "F16" }), TypeError);
  const ids = await HostTensor.from({ data: new BigInt64Array([1n]) }).to({ dtype: "I32", saturate: true });
  same<typeof ids, HostTensor<"I32">>(true);
  const _data: Int32Array = ids.data;
});
