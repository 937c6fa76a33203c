/**
 * Use tensors in the order in which they land, while the others are still being read, and show the progress.
 *
 *     deno run -A examples/streaming.ts [file, folder or index] [--dtype BF16] [--memory BYTES]
 *
 * Without arguments it makes a model of 8 tensors in 2 files, and removes it at the end.
 */
import { parseArgs } from "@std/cli/parse-args";
import { fastsafeOpen, isFloatDType, serialize } from "@x/fastsafetensors";
import { ParallelLoader } from "@x/fastsafetensors/compat";

const { _: [wanted], dtype, memory } = parseArgs(Deno.args, {
  string: ["_", "dtype", "memory"],
  default: { dtype: "F32", memory: String(256 * 2 ** 20) },
});
if (!isFloatDType(dtype)) throw new TypeError(`Cannot cast to dtype "${dtype}"`);
const made = wanted === undefined ? await makeFolder() : null;
const files = made ?? String(wanted);
try {
  // All tensors in memory: one pass over the files at full speed.
  await using model = await fastsafeOpen(files, {
    dtype, // casts while loading
    onProgress: ({ bytes, totalBytes, tensors, totalTensors }) => {
      console.log(`  ${Math.round(100 * bytes / totalBytes)} %, ${tensors} of ${totalTensors} tensors`);
    },
  });
  for await (const [name, tensor] of model) {
    console.log(`${name}: ${tensor.dtype} [${tensor.shape}], largest ${largest(tensor.toFloat32())}`);
  }

  // The same under a bound on memory, for models that are larger than memory.
  let count = 0;
  const loader = new ParallelLoader(null, files, { maxBytesInFlight: Number(memory) });
  for await (const [_name] of loader.iterateWeights()) count++;
  console.log(`${count} tensors with at most ${Number(memory) / 2 ** 20} MiB in memory`);
} finally {
  if (made) await Deno.remove(made, { recursive: true });
}

function largest(values: Float32Array): number {
  return values.reduce((most, value) => Math.max(most, value), -Infinity);
}

/** Files with BF16 tensors of 256 × 256, each filled with its own number. */
async function makeFolder(): Promise<string> {
  const folder = await Deno.makeTempDir();
  const bfloat16 = (value: number) => new Uint32Array(Float32Array.of(value).buffer)[0]! >>> 16;
  for (const file of [0, 1]) {
    const tensors = [0, 1, 2, 3].map((index) => {
      const number = 4 * file + index;
      const data = new Uint16Array(256 * 256).fill(bfloat16(number));
      return [`layers.${number}.weight`, { dtype: "BF16", shape: [256, 256], data }] as const;
    });
    await Deno.writeFile(`${folder}/model-${file}.safetensors`, serialize(tensors));
  }
  return folder;
}
