/**
 * Load files by the low-level API, as fastsafetensors' own single-process example does: name files, copy them to the
 * device, take tensors, join them.
 *
 *     deno run -A examples/run_single.ts [a.safetensors b.safetensors …]
 *
 * Without arguments it makes two small files, and removes them at the end.
 */
import { serialize } from "@x/fastsafetensors";
import { SafeTensorsFileLoader } from "@x/fastsafetensors/compat";

const made = Deno.args.length === 0 ? await makeFiles() : null;
const files = made?.files ?? Deno.args;
try {
  await using loader = new SafeTensorsFileLoader(null); // null: this process alone
  await loader.addFilenames({ 0: files }); // rank → its files
  await using buffer = await loader.copyFilesToDevice();

  for (const name of buffer.getKeys()) {
    const { dtype, shape, data } = await buffer.getTensor(name);
    const first = [...data.subarray(0, 4)].join(", ");
    console.log(`${name}: ${dtype} [${shape}] from ${buffer.getFilename(name)}: ${first}, …`);
  }
  if (made) {
    const joined = await buffer.getMultiCols(["a0", "b0"], 1);
    console.log(`${joined.name}: ${joined.dtype} [${joined.shape}]`);
  }
  const { tensors, bytes, seconds } = buffer.stats();
  console.log(`${tensors} tensors, ${bytes} bytes in ${seconds.toFixed(3)} s`);
} finally {
  if (made) await Deno.remove(made.folder, { recursive: true });
}

/** Two files with one tensor each, whose elements count up. */
async function makeFiles(): Promise<{ folder: string; files: string[] }> {
  const folder = await Deno.makeTempDir();
  const data = Float16Array.from({ length: 16 * 8 }, (_, index) => index);
  const files: string[] = [];
  for (const letter of ["a", "b"]) {
    const file = `${folder}/${letter}.safetensors`;
    await Deno.writeFile(file, serialize({ [`${letter}0`]: { dtype: "F16", shape: [16, 8], data } }));
    files.push(file);
  }
  return { folder, files };
}
