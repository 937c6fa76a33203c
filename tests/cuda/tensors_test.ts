/**
 * Tensors on a device: handles, their operations, and the lifetime of their memory.
 */
import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import {
  type CudaTensor,
  DeviceError,
  DTYPES,
  fastsafeOpen,
  SafeTensorsError,
  UseAfterCloseError,
} from "../../mod.ts";
import { ParallelLoader, SafeTensorsFileLoader } from "../../src/compat/mod.ts";
import { assertIntegerCasts } from "../support/integer_casts.ts";
import { decode, encode, FLOATS } from "../support/floats.ts";
import { assertBytes, assertTensor, noise, type TensorSpec, writeFile } from "../support/models.ts";
import { assertOnDevice, cudaSuite, settled, standInSuite, toHost, useCuda } from "./support.ts";

const machine = await useCuda();

const SPECS: TensorSpec[] = [
  { name: "odd", dtype: "U8", shape: [5] },
  { name: "numbers", dtype: "I32", shape: [1000] },
  { name: "odd too", dtype: "BOOL", shape: [3] },
  { name: "matrix", dtype: "F16", shape: [33, 30] },
  { name: "none", dtype: "F64", shape: [0, 4] },
  { name: "scalar", dtype: "F64", shape: [] },
];

cudaSuite("Tensors on a CUDA device", machine, (test) => {
  test("a tensor is an aligned device pointer, for every length of the header", async (folder) => {
    const specs = DTYPES.map((dtype): TensorSpec => ({ name: dtype, dtype, shape: [3, 8] }));
    for (const misalignment of [0, 1, 3, 4, 7]) {
      const path = `${folder}/${misalignment}.safetensors`;
      const tensors = await writeFile(path, [...SPECS, ...specs], { misalignment });
      for (const lazy of [false, true]) {
        await using model = await fastsafeOpen(path, { device: "cuda", lazy });
        for (const tensor of tensors) {
          const handle = await model.getTensor(tensor.name);
          assertEquals([handle.device, handle.byteLength], ["cuda:0", tensor.bytes.byteLength]);
          assertEquals(typeof handle.devicePointer, "bigint");
          await assertOnDevice(handle, tensor);
        }
      }
    }
  });

  test("tensors stay valid after the model is closed, until they are disposed", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const tensors = await writeFile(path, SPECS);
    const handles: CudaTensor[] = [];
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { device: "cuda", lazy });
      for (const { name } of tensors) handles.push(await model.getTensor(name));
    }
    await Deno.remove(path);
    for (const [index, handle] of handles.entries()) {
      await assertOnDevice(handle, tensors[index % tensors.length]!);
    }
  });

  test("a disposed handle throws, and may be disposed again", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    await using model = await fastsafeOpen(path, { device: "cuda" });
    const handle = await model.getTensor("matrix");
    using other = await model.getTensor("matrix");
    handle[Symbol.dispose]();
    handle[Symbol.dispose]();
    assertThrows(
      () => handle.devicePointer,
      UseAfterCloseError,
      'Cannot use tensor "matrix": its handle was disposed',
    );
    assertThrows(() => handle.named("x"), UseAfterCloseError, "disposed");
    await assertRejects(() => handle.copyToHost(), UseAfterCloseError, "disposed");
    await assertRejects(() => handle.to({ dtype: "F32" }), UseAfterCloseError, "disposed");
    await assertRejects(() => handle.to({ device: "cuda" }), UseAfterCloseError, "disposed");
    await assertRejects(() => handle.toDLPack(), UseAfterCloseError, "disposed");
    assertEquals([handle.name, handle.shape], ["matrix", [33, 30]]);
    assertNotEquals(other.devicePointer, 0n);
  });

  test("disposing a handle does not disturb its running operations", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [tensor] = await writeFile(path, [{ name: "x", dtype: "F32", shape: [100_000] }]);
    const model = await fastsafeOpen(path, { device: "cuda" });
    const handle = await model.getTensor("x");
    await model.close();
    const results = [handle.copyToHost(), handle.copyToHost()];
    const half = handle.to({ dtype: "BF16" });
    handle[Symbol.dispose]();
    for (const result of results) assertTensor(await result, tensor!);
    assertEquals((await toHost(await half)).byteLength, 200_000);
  });

  test("CudaTensor.to() casts every float to every other", async (folder) => {
    const numbers = [0, -0, 1, -1.5, 3.14159];
    for (let value = 2 ** -9; value < 2 ** 7; value *= 1.07) numbers.push(value, -value);
    for (const from of FLOATS) {
      const usable = from === "F8_E8M0" ? numbers.filter((value) => value > 0) : numbers;
      const bytes = encode(usable, from);
      const path = `${folder}/${from}.safetensors`;
      await writeFile(path, [{ name: "x", dtype: from, shape: [usable.length], bytes }], { misalignment: 1 });
      await using model = await fastsafeOpen(path, { device: "cuda" });
      using x = await model.getTensor("x");
      for (const to of FLOATS) {
        const values = decode(bytes, from);
        if (to === "F8_E8M0" && values.some((value) => !(value > 0))) continue;
        using cast = await x.to({ dtype: to });
        assertEquals([cast.name, cast.dtype, cast.shape], ["x", to, [usable.length]]);
        const host = await cast.copyToHost();
        assertEquals(
          decode(host.bytes, to),
          from === to ? values : decode(encode(values, to), to),
          `${from} to ${to}`,
        );
      }
    }
  });

  test("CudaTensor.to() and getTensor() cast integers through host memory", async (folder) => {
    await assertIntegerCasts(folder, "cuda");
  });

  test("CudaTensor.to() rejects impossible casts, and shares memory for the same dtype", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    await using model = await fastsafeOpen(path, { device: "cuda" });
    using numbers = await model.getTensor("numbers");
    using same = await numbers.to({ dtype: "I32" });
    using here = await numbers.to({ device: "cuda:0" });
    assertEquals([same.devicePointer, here.devicePointer], [numbers.devicePointer, numbers.devicePointer]);
    const error = await assertRejects(
      () => numbers.to({ dtype: "F32" }),
      SafeTensorsError,
      "from I32 to F32",
    );
    assertEquals(error.code, "UnsupportedCast");
    await assertRejects(() => numbers.to({ device: "gpu" as "cuda" }), TypeError, '"gpu"');
  });

  test("model.getTensor() casts one tensor", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const bytes = encode([1, 2, 3, -0.5], "F16");
    await writeFile(path, [{ name: "x", dtype: "F16", shape: [4], bytes }]);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { device: "cuda", lazy });
      const x = await toHost(await model.getTensor("x", { dtype: "F32" }));
      assertEquals(x.data, new Float32Array([1, 2, 3, -0.5]));
    }
  });

  test("slices and joins of tensors on the device are new tensors", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [tensor] = await writeFile(path, [{ name: "x", dtype: "I16", shape: [6, 5, 4] }]);
    const whole = new Int16Array(tensor!.bytes.slice().buffer);
    await using loader = new SafeTensorsFileLoader(null, { device: "cuda" });
    await loader.addFilenames({ 0: [path] });
    await using buffer = await loader.copyFilesToDevice();
    using joined = await buffer.getMultiCols(["x", "x"], 1);
    assertEquals(joined.shape, [6, 10, 4]);
    const rows = Array.from({ length: 6 }, (_, row) => [...whole.subarray(row * 20, row * 20 + 20)]);
    assertEquals([...(await joined.copyToHost()).data], rows.flatMap((row) => [...row, ...row]));
    await using model = await fastsafeOpen(path, { device: "cuda" });
    const slice = await toHost(await model.getSlice("x", [1, 6, 2], -1, [0, 4, 3]));
    assertEquals(slice.shape, [3, 2]);
    assertEquals(
      [...slice.data],
      [1, 3, 5].flatMap((row) => [0, 3].map((column) => whole[row * 20 + 16 + column]!)),
    );
  });

  test("iteration yields each tensor as soon as it is complete", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const tensors = await writeFile(path, [
      { name: "first", dtype: "U8", shape: [100] },
      { name: "large", dtype: "F32", shape: [1024, 1024] },
      { name: "last", dtype: "I16", shape: [10] },
    ]);
    await using model = await fastsafeOpen(path, { device: "cuda", blockBytes: 4096, maxThreads: 1 });
    const seen: string[] = [];
    for await (const [name, tensor] of model) {
      seen.push(name);
      await assertOnDevice(tensor, tensors.find((written) => written.name === name)!);
    }
    assertEquals(seen, ["first", "large", "last"]);
  });

  test("several devices load separately, and tensors move between them", async (folder) => {
    if (machine.devices < 2) return console.log("    only one device here: not tried");
    const path = `${folder}/model.safetensors`;
    const tensors = await writeFile(path, SPECS);
    await using first = await fastsafeOpen(path, { device: "cuda:0" });
    await using second = await fastsafeOpen(path, { device: "cuda:1" });
    for (const tensor of tensors) {
      await assertOnDevice(await second.getTensor(tensor.name), tensor);
      using here = await first.getTensor(tensor.name);
      using there = await here.to({ device: "cuda:1" });
      assertEquals([here.device, there.device], ["cuda:0", "cuda:1"]);
      assertTensor(await there.copyToHost(), tensor);
    }
    assertEquals([first.stats().device, second.stats().device], ["cuda:0", "cuda:1"]);
    using odd = await first.getTensor("odd");
    await assertRejects(() => odd.to({ device: `cuda:${machine.devices}` }), DeviceError);
  });
});

standInSuite("The memory of tensors on a CUDA device", machine, (test, standIns) => {
  test("memory is freed with the last handle in it, not before", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    const model = await fastsafeOpen(path, { device: "cuda" });
    await model.whenLoaded();
    const handles = [
      await model.getTensor("odd"),
      await model.getTensor("odd"),
      await model.getTensor("numbers"),
    ];
    handles.push(handles[0]!.named("also odd"));
    assertEquals(handles[3]!.name, "also odd");
    await model.close();
    for (const handle of handles) {
      await settled(machine);
      assertEquals(standIns.report().live.allocations, 1);
      handle[Symbol.dispose]();
      handle[Symbol.dispose]();
    }
    await settled(machine);
    assertEquals(standIns.report().live.allocations, 0);
  });

  test("a model without handles frees its memory when it is closed", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    for (const ends of ["loaded", "closed early"]) {
      const model = await fastsafeOpen(path, { device: "cuda" });
      if (ends === "loaded") await model.whenLoaded();
      await model.close();
      await settled(machine);
      assertEquals(standIns.report().live.allocations, 0, ends);
    }
  });

  test("loads of a lazy model hold memory only for returned handles", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    await using model = await fastsafeOpen(path, { device: "cuda", lazy: true });
    for (let turn = 0; turn < 3; turn++) {
      using _tensor = await model.getTensor("matrix");
      using _slice = await model.getSlice("numbers", [0, 10]);
    }
    for (let wait = 0; wait < 1000 && standIns.report().live.allocations! > 0; wait++) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await settled(machine);
    assertEquals(standIns.report().live.allocations, 0);
  });

  test("a slice of a lazy model copies only its bytes to the device", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [tensor] = await writeFile(path, [{ name: "x", dtype: "I16", shape: [300, 1000] }]);
    const whole = new Int16Array(tensor!.bytes.slice().buffer);
    await using model = await fastsafeOpen(path, { device: "cuda", lazy: true });
    for (
      const { slices, rows, columns } of [
        { slices: [null, [200, 216]], rows: [0, 300], columns: [200, 216] },
        { slices: [[10, 20], null], rows: [10, 20], columns: [0, 1000] },
        { slices: [[299, 300], [999, 1000]], rows: [299, 300], columns: [999, 1000] },
      ] as const
    ) {
      standIns.reset();
      using slice = await model.getSlice("x", ...slices);
      const { h2d, d2d, peer } = standIns.report().copied;
      const height = rows[1] - rows[0], width = columns[1] - columns[0];
      assertEquals([h2d, d2d, peer], [height * width * 2, 0, 0], JSON.stringify(slices));
      const expected = Array.from({ length: height }, (_, row) => {
        const start = (rows[0] + row) * 1000;
        return [...whole.subarray(start + columns[0], start + columns[1])];
      });
      assertEquals([...(await slice.copyToHost()).data], expected.flat());
    }
  });

  test("a load has one allocation for many tensors, and the given staging memory", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const specs = Array.from({ length: 200 }, (_, index): TensorSpec => {
      return { name: `${index}`, dtype: "F16", shape: [index + 1, 100] };
    });
    await writeFile(path, specs, { misalignment: 5 });
    for (const stagingBytes of [64 * 1024, 1024 * 1024]) {
      standIns.reset();
      await using model = await fastsafeOpen(path, { device: "cuda", stagingBytes, dtype: "F32" });
      await model.whenLoaded();
      await settled(machine);
      const { live, peak } = standIns.report();
      assertEquals([live.allocations, live.registered], [1, 1], "the process keeps the staging memory");
      assert(peak.pinnedBytes <= stagingBytes, `${peak.pinnedBytes} bytes were pinned`);
      const tensors = 200 * 201 / 2 * 100 * 4 + 200 * 64;
      assert(
        peak.deviceBytes <= tensors + stagingBytes + 70_000,
        `${peak.deviceBytes} bytes of device memory`,
      );
      machine.shutDown();
    }
  });

  test("ParallelLoader bounds device memory, also if a cast enlarges tensors", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const specs = Array.from({ length: 40 }, (_, index): TensorSpec => {
      return { name: `${index}`, dtype: "BF16", shape: [25_000] };
    });
    const tensors = await writeFile(path, specs);
    standIns.reset();
    const staging = { stagingBytes: 65536, blockBytes: 4096, gds: "off" } as const;
    const options = { device: "cuda", dtype: "F32", maxBytesInFlight: 800_000, ...staging } as const;
    const names: string[] = []; // in the order in which they land, which lanes can change
    for await (const [name, tensor] of new ParallelLoader(null, path, options).iterateWeights()) {
      assertEquals((await toHost(tensor)).byteLength, 100_000);
      names.push(name);
    }
    assertEquals(names.toSorted(), tensors.map(({ name }) => name).toSorted());
    const { peak } = standIns.report();
    const rings = 2 * (65536 + 65536); // each load casts from its own ring
    assert(peak.deviceBytes <= 800_000 + rings + 2 * 8192, `${peak.deviceBytes} bytes of device memory`);
  });

  test("fastsafeOpen() reads each byte once, and copies it once", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const bytes = noise(300_000, 3);
    await writeFile(path, [{ name: "x", dtype: "U8", shape: [300_000], bytes }], { misalignment: 3 });
    standIns.reset();
    await using model = await fastsafeOpen(path, { device: "cuda", gds: "off" });
    await model.whenLoaded();
    const { copied } = standIns.report();
    assertEquals([copied.h2d, copied.d2d, copied.d2h], [300_000, 0, 0]);
    assertBytes((await toHost(await model.getTensor("x"))).bytes, bytes, "x");
  });
});
