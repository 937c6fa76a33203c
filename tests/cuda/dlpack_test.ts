/**
 * DLPack: the exported tensors, and a real consumer in this process.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { runInNewContext } from "node:vm";
import { setFlagsFromString } from "node:v8";
import { buildShim } from "../../ffi/build.ts";
import { type DType, DTYPES, fastsafeOpen, HostTensor } from "../../mod.ts";
import { countBuffersOfConsumers } from "../../src/device/cuda/dlpack.ts";
import { noise, tempFolder, tensorLength, type TensorSpec, writeFile } from "../support/models.ts";
import { runChild } from "../support/child.ts";
import { findPython, Python } from "../support/python.ts";
import { suite } from "../support/skip.ts";
import { cudaSuite, settled, standInSuite, useCuda } from "./support.ts";

const machine = await useCuda();
setFlagsFromString("--expose-gc");
const collect: () => void = runInNewContext("gc");

/** DLDataTypeCode and bits of the dtypes, from DLPack's own header. */
const TYPES: Partial<Record<DType, [code: number, bits: number]>> = {
  BOOL: [6, 8],
  U8: [1, 8],
  I8: [0, 8],
  F8_E5M2: [12, 8],
  F8_E4M3: [10, 8],
  F8_E8M0: [14, 8],
  F8_E4M3FNUZ: [11, 8],
  F8_E5M2FNUZ: [13, 8],
  I16: [0, 16],
  U16: [1, 16],
  F16: [2, 16],
  BF16: [4, 16],
  I32: [0, 32],
  U32: [1, 32],
  F32: [2, 32],
  C64: [5, 64],
  F64: [2, 64],
  I64: [0, 64],
  U64: [1, 64],
};

interface Seen {
  data: bigint;
  deviceType: number;
  device: number;
  code: number;
  bits: number;
  lanes: number;
  shape: number[];
  strides: number[];
  byteOffset: bigint;
  deleter: Deno.PointerValue;
}

/** Reads a DLManagedTensor or DLManagedTensorVersioned, as a consumer would. */
function look(address: bigint, versioned: boolean): Seen {
  const view = new Deno.UnsafePointerView(Deno.UnsafePointer.create(address)!);
  const at = versioned ? 32 : 0;
  if (versioned) {
    const minor = view.getUint8(at + 20) > 6 ? 1 : 0; // the codes of float8 came with version 1.1
    assertEquals([view.getUint32(0), view.getUint32(4), view.getBigUint64(24)], [1, minor, 0n]); // version, flags
  }
  const rank = view.getInt32(at + 16);
  const numbers = (offset: number) => {
    const list = new Deno.UnsafePointerView(view.getPointer(at + offset)!);
    return Array.from({ length: rank }, (_, index) => Number(list.getBigInt64(8 * index)));
  };
  return {
    data: view.getBigUint64(at),
    deviceType: view.getInt32(at + 8),
    device: view.getInt32(at + 12),
    code: view.getUint8(at + 20),
    bits: view.getUint8(at + 21),
    lanes: view.getUint16(at + 22),
    shape: numbers(24),
    strides: numbers(32),
    byteOffset: view.getBigUint64(at + 40),
    deleter: view.getPointer(versioned ? 16 : 56),
  };
}

/** Calls the deleter of a tensor, as its consumer must. */
function free(address: bigint, versioned: boolean): void {
  const { deleter } = look(address, versioned);
  const type = { parameters: ["u64"], result: "void" } as const;
  const call = new Deno.UnsafeFnPointer(deleter as Deno.PointerObject<typeof type>, type);
  call.call(address);
}

/** Runs the garbage collector and its finalizers until this many buffers remain, or for a limited number of rounds. */
async function collected(kept = 0): Promise<void> {
  for (let turn = 0; turn < (kept > 0 ? 3 : 50) && countBuffersOfConsumers() !== 0; turn++) {
    collect();
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

suite("DLPack", "native", machine.shim ? null : machine.missing, () => {
  Deno.test("HostTensor.toDLPack() describes the tensor, for every dtype", async () => {
    for (const dtype of DTYPES) {
      const shape = [3, 8, 2];
      const tensor = new HostTensor("x", dtype, shape, noise(tensorLength({ dtype, shape }), 1));
      const type = TYPES[dtype];
      for (const versioned of [false, true]) {
        if (!type) {
          await assertRejects(() => tensor.toDLPack({ versioned }), TypeError, dtype);
          continue;
        }
        const address = await tensor.toDLPack({ versioned });
        const { data, deleter, ...seen } = look(address, versioned);
        assertEquals(seen, {
          deviceType: 1,
          device: 0,
          code: type[0],
          bits: type[1],
          lanes: 1,
          shape,
          strides: [16, 2, 1],
          byteOffset: 0n,
        });
        assert(deleter !== null);
        const bytes = new Uint8Array(tensor.byteLength);
        new Deno.UnsafePointerView(Deno.UnsafePointer.create(data)!).copyInto(bytes);
        assertEquals(bytes, tensor.bytes);
        free(address, versioned);
      }
    }
    await collected();
    assertEquals(countBuffersOfConsumers(), 0);
  });

  Deno.test("HostTensor.toDLPack() exports scalars and empty tensors", async () => {
    for (const [shape, strides] of [[[], []], [[0, 4], [4, 1]]] as const) {
      const tensor = new HostTensor("x", "F32", shape, new Uint8Array(shape.length === 0 ? 4 : 0));
      const address = await tensor.toDLPack();
      const seen = look(address, false);
      assertEquals([seen.shape, seen.strides], [[...shape], [...strides]]);
      assertEquals(seen.data === 0n, shape.length > 0);
      free(address, false);
    }
    await collected();
  });

  Deno.test("HostTensor.toDLPack() rejects a transferred buffer", async () => {
    const bytes = new Uint8Array(8);
    const tensor = new HostTensor("x", "U8", [8], bytes);
    bytes.buffer.transfer();
    await assertRejects(
      () => tensor.toDLPack(),
      TypeError,
      'tensor "x" by DLPack: its buffer was transferred',
    );
  });

  Deno.test("HostTensor.toDLPack() rejects unknown and wrong options", async () => {
    const tensor = new HostTensor("x", "U8", [3], new Uint8Array(3));
    for (
      const [options, message] of [
        [{ version: true }, 'toDLPack() has no option "version"'],
        [{ versioned: 1 }, "versioned must be true or false, got 1"],
      ] as const
    ) {
      await assertRejects(() => tensor.toDLPack(options as object), TypeError, message);
    }
  });

  Deno.test("HostTensor.toDLPack() exports memory that stays valid when its Worker ends", async () => {
    await using folder = await tempFolder();
    const { code, stdout, stderr } = await runChild("dlpack_worker.ts", {
      flags: ["-A"],
      args: [`${folder.path}/model.safetensors`],
      env: { HOME: folder.path, FASTSAFETENSORS_LIB: await buildShim() },
    });
    const line = `0 ${64 * 2 ** 20} 9 9\n`; // misalignment, length, first and last byte
    assertEquals([code, stdout, stderr], [0, line + line, ""]);
  });

  Deno.test("HostTensor.toDLPack() retains the memory until the consumer calls the deleter", async () => {
    let bytes: Uint8Array<ArrayBuffer> | null = noise(5_000_000, 9);
    const last = bytes.at(-1)!;
    const gone = new WeakRef(bytes.buffer);
    const address = await new HostTensor("x", "U8", [5_000_000], bytes).toDLPack();
    bytes = null;
    await collected(1);
    assertEquals(countBuffersOfConsumers(), 1);
    const { data } = look(address, false);
    assertEquals(new Deno.UnsafePointerView(Deno.UnsafePointer.create(data)!).getUint8(4_999_999), last);
    free(address, false);
    await collected();
    assertEquals(countBuffersOfConsumers(), 0);
    for (let turn = 0; turn < 50 && gone.deref(); turn++) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      collect();
    }
    assertEquals(gone.deref(), undefined);
  });
});

cudaSuite("DLPack from a CUDA device", machine, (test) => {
  test("CudaTensor.toDLPack() describes the device's memory, and retains it", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const specs: TensorSpec[] = [{ name: "odd", dtype: "U8", shape: [3] }, {
      name: "x",
      dtype: "BF16",
      shape: [5, 7],
    }];
    await writeFile(path, specs);
    for (const versioned of [false, true]) {
      const device = machine.devices - 1;
      const model = await fastsafeOpen(path, { device: `cuda:${device}` });
      const tensor = await model.getTensor("x");
      const address = await tensor.toDLPack({ versioned });
      const { deleter: _, ...seen } = look(address, versioned);
      assertEquals(seen, {
        data: tensor.devicePointer,
        deviceType: 2,
        device,
        code: 4,
        bits: 16,
        lanes: 1,
        shape: [5, 7],
        strides: [7, 1],
        byteOffset: 0n,
      });
      tensor[Symbol.dispose]();
      await model.close();
      free(address, versioned);
    }
  });
});

standInSuite("DLPack from a CUDA stand-in", machine, (test, standIns) => {
  test("the deleter frees the device's memory after the last reference", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [{ name: "x", dtype: "F32", shape: [100] }]);
    const model = await fastsafeOpen(path, { device: "cuda" });
    const tensor = await model.getTensor("x");
    const addresses = [await tensor.toDLPack(), await tensor.toDLPack()];
    await model.close();
    tensor[Symbol.dispose]();
    for (const address of addresses) {
      await settled(machine);
      assertEquals(standIns.report().live.allocations, 1);
      free(address, false);
    }
    await settled(machine);
    assertEquals(standIns.report().live.allocations, 0);
  });

  test("the deleter does not change its caller's current device", async (folder) => {
    using _devices = standIns.set({ FST_SIM_DEVICES: "3" }); // one that no other test uses
    const runtime = Deno.dlopen(`${standIns.folder}/libfst_sim_cuda.so`, {
      cudaSetDevice: { parameters: ["i32"], result: "i32" },
      cudaGetDevice: { parameters: ["buffer"], result: "i32" },
      cudaFree: { parameters: ["usize"], result: "i32" },
      cuModuleLoadData: { parameters: ["buffer", "buffer"], result: "i32" },
      cuModuleUnload: { parameters: ["usize"], result: "i32" },
    });
    const { cudaSetDevice, cudaGetDevice, cudaFree, cuModuleLoadData, cuModuleUnload } = runtime.symbols;
    const image = new TextEncoder().encode(
      ".version 6.4\n.target sm_50\n.address_size 64\n.visible .entry x() { ret; }\0",
    );
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [{ name: "x", dtype: "F32", shape: [100] }]);
    /** The caller's current device after a thread whose device is 2 has released a tensor of device 0. */
    const afterDeleter = async (isUsed: boolean) => {
      const model = await fastsafeOpen(path, { device: "cuda:0" });
      const tensor = await model.getTensor("x");
      const address = await tensor.toDLPack();
      tensor[Symbol.dispose]();
      await model.close(); // the deleter has the last reference to the memory
      assertEquals(cudaSetDevice(2), 0);
      if (isUsed) assertEquals(cudaFree(0n), 0); // makes the context of device 2 current
      free(address, false);
      if (isUsed) {
        // The driver needs that context, and cudaSetDevice() to another device and back does not make it current again.
        const module = new BigUint64Array(1);
        assertEquals(cuModuleLoadData(module, image), 0);
        assertEquals(cuModuleUnload(module[0]!), 0);
      }
      const current = new Int32Array(1);
      assertEquals(cudaGetDevice(current), 0);
      return current[0];
    };
    assertEquals(await afterDeleter(false), 2, "before device 2 was used for anything");
    const model = await fastsafeOpen(path, { device: "cuda:2" });
    await model.whenLoaded();
    await model.close();
    assertEquals(await afterDeleter(true), 2);
    cudaSetDevice(0);
    runtime.close();
  });
});

const isReal = machine.missing === null && machine.standIns === null;
const { path: libpython, missing: noPython } = await findPython("numpy");
const python = noPython === null ? new Python(libpython) : null;

suite("DLPack with a consumer in this process", "python", noPython, () => {
  Deno.test("numpy imports a tensor, uses it after the model is closed, and frees it", async () => {
    await using folder = await tempFolder();
    const path = `${folder.path}/model.safetensors`;
    const values = Float32Array.from({ length: 1000 }, (_, index) => index / 2);
    const bytes = new Uint8Array(values.buffer);
    await writeFile(path, [{ name: "odd", dtype: "U8", shape: [3] }, {
      name: "x",
      dtype: "F32",
      shape: [25, 40],
      bytes,
    }]);
    for (const versioned of [false, true]) {
      {
        await using model = await fastsafeOpen(path);
        python!.give(await (await model.getTensor("x")).toDLPack({ versioned }), versioned);
      }
      python!.run(`
import numpy
array = numpy.from_dlpack(Given(capsule, (1, 0)))
del capsule
assert array.dtype == numpy.float32 and array.shape == (25, 40), (array.dtype, array.shape)
`);
      await collected(1);
      assertEquals(countBuffersOfConsumers(), 1);
      python!.run(`
assert array.sum() == sum(range(1000)) / 2, array.sum()
assert array[24, 39] == 999 / 2 and array[:, 1].tolist() == [row * 20 + 0.5 for row in range(25)]
del array
import gc
gc.collect()
`);
      await collected();
      assertEquals(countBuffersOfConsumers(), 0);
    }
  });

  Deno.test("numpy imports every dtype that it has", async () => {
    const known: [DType, string][] = [
      ["BOOL", "bool"],
      ["U8", "uint8"],
      ["I8", "int8"],
      ["I16", "int16"],
      ["U16", "uint16"],
      ["F16", "float16"],
      ["I32", "int32"],
      ["U32", "uint32"],
      ["C64", "complex64"],
      ["F64", "float64"],
      ["I64", "int64"],
      ["U64", "uint64"],
    ];
    for (const [dtype, name] of known) {
      const bytes = dtype === "BOOL"
        ? new Uint8Array([1, 0, 1, 1, 0, 0])
        : noise(tensorLength({ dtype, shape: [6] }), 4);
      python!.give(await new HostTensor("x", dtype, [2, 3], bytes).toDLPack(), false);
      python!.run(`
array = numpy.from_dlpack(Given(capsule, (1, 0)))
assert array.dtype == numpy.dtype("${name}"), array.dtype
assert array.tobytes().hex() == "${bytes.toHex()}"
del array, capsule
`);
    }
    await collected();
    assertEquals(countBuffersOfConsumers(), 0);
  });

  Deno.test("an unused capsule can be freed by its owner", async () => {
    const address = await new HostTensor("x", "U8", [3], new Uint8Array(3)).toDLPack();
    free(address, false);
    await collected();
    assertEquals(countBuffersOfConsumers(), 0);
  });
});

suite("DLPack with PyTorch", "python", (await findPython("numpy, torch")).missing, () => {
  const place = isReal ? [] : ["cpu"];
  Deno.test(`PyTorch gets the bytes of tensors${isReal ? " on the GPU [CUDA]" : ""}`, async () => {
    const { code, stdout, stderr } = await runChild("../cuda/dlpack_program.ts", {
      flags: ["-A"],
      args: ["torch", ...place],
      env: Deno.env.toObject(),
    });
    const dtypes = "U8, I8, I16, I32, I64, F16, F32, F64, C64, BOOL, BF16";
    const line = `${dtypes} and 67108864 bytes of U8 are equal after the model is closed, versioned and not`;
    assertEquals([code, stderr, stdout.trim().split("\n").at(-1)], [0, "", line]);
  });
});
