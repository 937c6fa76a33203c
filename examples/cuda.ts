/**
 * Load a model to a CUDA GPU and pass its tensors to other libraries of the process: as device pointers, or by DLPack.
 *
 *     deno run -A examples/cuda.ts [file tensor]
 *
 * Without arguments it makes a file with a small weight, and removes it at the end. Without a GPU it says so.
 */
import { fastsafeOpen, serialize } from "@x/fastsafetensors";
import { doctor } from "@x/fastsafetensors/doctor";

const DELETER = { parameters: ["pointer"], result: "void" } as const satisfies Deno.ForeignFunction;

const { cuda } = await doctor();
const [gpu] = cuda.devices;
if (!gpu) {
  console.log(`A load to CUDA is not possible: ${cuda.reason}`);
  Deno.exit();
}
const made = Deno.args.length === 0 ? await makeFile() : null;
const [file, name] = made ? [made, "weight"] : Deno.args as [string, string];
try {
  await using model = await fastsafeOpen(file, { device: gpu.device, names: [name] });
  using weight = await model.getTensor(name);
  console.log(`${name}: ${weight.dtype} [${weight.shape}], ${weight.byteLength} bytes on ${weight.device}`);
  await model.whenLoaded(); // for the statistics only: the tensor has landed
  const { path, notes } = model.stats();
  console.log(`way: ${path}${notes.map((note) => `\n  ${note}`).join("")}`);

  // For a library that takes addresses, such as your own kernels. Valid until `weight` is disposed.
  console.log(`address: 0x${weight.devicePointer.toString(16)}`);

  // On the device: a cast; then a copy to the host, to print it.
  using wide = await weight.to({ dtype: "F32" });
  const { data } = await wide.copyToHost();
  console.log(`as F32: ${[...data.subarray(0, 4)].join(", ")}, …`);

  // For a library in this process that knows DLPack (PyTorch, JAX, CuPy, …), in a capsule "dltensor". It keeps the
  // memory allocated, also after handle and model are closed, until the consumer calls the deleter.
  const managed = await weight.toDLPack();
  console.log(`DLPack: ${describe(managed)}`);
  callDeleter(managed); // like a consumer
} finally {
  if (made) await Deno.remove(made);
}

/** The fields of a DLManagedTensor that a consumer reads. */
function describe(managed: bigint): string {
  const view = new Deno.UnsafePointerView(Deno.UnsafePointer.create(managed)!);
  const rank = view.getInt32(16);
  const shape = new Deno.UnsafePointerView(view.getPointer(24)!);
  const sizes = Array.from({ length: rank }, (_, dimension) => shape.getBigInt64(8 * dimension));
  return `device type ${view.getInt32(8)}, device ${view.getInt32(12)}, ${
    view.getUint8(21)
  } bits, [${sizes}]`;
}

function callDeleter(managed: bigint): void {
  const pointer = Deno.UnsafePointer.create(managed)!;
  const deleter = new Deno.UnsafePointerView(pointer).getPointer<typeof DELETER>(56)!;
  new Deno.UnsafeFnPointer(deleter, DELETER).call(pointer);
}

/** A file with a weight of ascending elements. */
async function makeFile(): Promise<string> {
  const path = await Deno.makeTempFile({ suffix: ".safetensors" });
  const data = Float16Array.from({ length: 64 * 32 }, (_, index) => index);
  await Deno.writeFile(path, serialize({ weight: { dtype: "F16", shape: [64, 32], data } }));
  return path;
}
