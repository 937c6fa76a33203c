/**
 * Tensors handed to PyTorch or CuPy by DLPack, in this process, and compared there with the written bytes. A program: a
 * process of `deno test`, whose tests have a thread of their own, does not end once PyTorch is imported in that thread.
 *
 * dlpack_program.ts torch|cupy [cpu]     "cpu": tensors in host memory, where there is no GPU
 *
 * Prints a line for each thing that it compared, or `missing: …` if the machine lacks something.
 */
import { type DType, fastsafeOpen, type HostTensor, serialize } from "../../mod.ts";
import { findPython, Python } from "../support/python.ts";

/** Dtypes that every version of both libraries has. */
const COMMON: readonly DType[] = ["U8", "I8", "I16", "I32", "I64", "F16", "F32", "F64", "C64"];

/** What one library does in Python. */
interface Consumer {
  readonly dtypes: readonly DType[];
  /** Fails if the library sees no GPU; prints its version. */
  readonly check: string;
  /** Sets `bytes` to the bytes of the tensor `given`. */
  readonly bytes: string;
}

const CONSUMERS: Readonly<Record<string, Consumer>> = {
  torch: {
    dtypes: [...COMMON, "BOOL", "BF16"],
    check: `import torch
print("PyTorch", torch.__version__, flush=True)
assert not needs_gpu or torch.cuda.is_available()`,
    bytes: `tensor = torch.from_dlpack(given)
assert list(tensor.shape) == shape, tensor.shape
bytes = tensor.cpu().reshape(-1).view(torch.uint8).numpy().tobytes()`,
  },
  cupy: {
    dtypes: COMMON,
    check: `import cupy
print("CuPy", cupy.__version__, flush=True)
assert cupy.cuda.runtime.getDeviceCount() > 0`,
    bytes: `tensor = cupy.from_dlpack(given)
assert list(tensor.shape) == shape, tensor.shape
bytes = cupy.asnumpy(tensor).tobytes()`,
  },
};

/** Bytes of the large tensor: more than one piece of a copy. */
const LARGE = 64 * 2 ** 20;

async function main([name, place]: readonly string[]): Promise<string[]> {
  const consumer = CONSUMERS[name!];
  if (!consumer) throw new Error(`Give "torch" or "cupy", got "${name}"`);
  const { path, missing } = await findPython(`numpy, ${name}`);
  if (missing !== null) return [`missing: ${missing}`];
  const device = place === "cpu" ? "cpu" : "cuda";
  const python = new Python(path);
  try {
    python.run(`needs_gpu = ${device === "cuda" ? "True" : "False"}\nimport hashlib\n${consumer.check}`);
  } catch {
    return [`missing: the Python at "${path}" has a ${name} that sees no GPU`];
  }
  const file = await Deno.makeTempFile({ suffix: ".safetensors" });
  try {
    const sums = await writeModel(file, consumer.dtypes);
    for (const versioned of [false, true]) {
      const tensors = await exportTensors(file, device, versioned);
      for (const [tensor, address] of tensors) {
        const kind = device === "cuda" ? 2 : 1;
        python.give(address, versioned);
        python.run(`given = Given(capsule, (${kind}, 0))
shape = ${JSON.stringify([sums.get(tensor)!.length])}
${consumer.bytes}
del tensor, given, capsule
found = hashlib.sha256(bytes).hexdigest()
assert found == "${sums.get(tensor)!.digest}", "${tensor}: the bytes differ: " + found`);
      }
    }
  } finally {
    await Deno.remove(file);
  }
  return [
    `${
      consumer.dtypes.join(", ")
    } and ${LARGE} bytes of U8 are equal after the model is closed, versioned and not`,
  ];
}

/** Writes tensors of noise; name → length in elements, and SHA-256. */
async function writeModel(
  path: string,
  dtypes: readonly DType[],
): Promise<Map<string, { length: number; digest: string }>> {
  const tensors = [
    ...dtypes.map((dtype) => [dtype, dtype, 8 * 1001] as const),
    ["large", "U8", LARGE] as const,
  ];
  const sums = new Map<string, { length: number; digest: string }>();
  const model: Record<string, { dtype: DType; shape: number[]; data: Uint8Array<ArrayBuffer> }> = {};
  for (const [name, dtype, byteLength] of tensors) {
    let state = byteLength;
    const data = new Uint8Array(byteLength);
    for (let at = 0; at < byteLength; at++) {
      state = Math.imul(state, 1664525) + 1013904223;
      data[at] = dtype === "BOOL" ? state >>> 31 : state >>> 24;
    }
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data)).toHex();
    const size = ELEMENT_BYTES[dtype]!;
    const length = Math.floor(byteLength / size);
    sums.set(name, { length, digest });
    model[name] = { dtype, shape: [length], data };
  }
  await Deno.writeFile(path, serialize(model));
  return sums;
}

/** Bytes of an element; 8008 bytes hold a whole number of each. */
const ELEMENT_BYTES: Partial<Record<DType, number>> = {
  ...{ BOOL: 1, U8: 1, I8: 1, I16: 2, F16: 2, BF16: 2, I32: 4, F32: 4 },
  ...{ I64: 8, F64: 8, C64: 8 },
};

/** Exports all tensors of a model that is closed before they are used: name → address. */
async function exportTensors(
  path: string,
  device: "cpu" | "cuda",
  versioned: boolean,
): Promise<Map<string, bigint>> {
  await using model = await fastsafeOpen(path, { device });
  const addresses = new Map<string, bigint>();
  for await (const [name, tensor] of model) {
    using held = tensor as HostTensor;
    addresses.set(name, await held.toDLPack({ versioned }));
  }
  return addresses;
}

console.log((await main(Deno.args)).join("\n"));
// Not by exit(): PyTorch's and CUDA's handlers at the end of a process may wait for threads of the other.
Deno.dlopen("libc.so.6", { _exit: { parameters: ["i32"], result: "void" } }).symbols._exit(0);
