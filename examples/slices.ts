/**
 * Read parts of a tensor: a lazy model reads only the bytes of the requested slice.
 *
 *     deno run -A examples/slices.ts [file tensor]
 *
 * Without arguments it makes a file with a table of 1000 × 64, and removes it at the end.
 */
import { fastsafeOpen, type HostTensor, serialize } from "@x/fastsafetensors";

const [file, name] = Deno.args;
const made = file === undefined ? await makeFile() : null;
try {
  await using model = await fastsafeOpen(made ?? file!, { lazy: true, dtype: "F32" }); // bits of BF16 become numbers
  const table = name ?? model.keys()[0]!;
  const { dtype, shape, byteLength } = model.info(table);
  console.log(`${table}: ${dtype} [${shape}], ${byteLength} bytes`);

  // The rules are NumPy's. Dimensions that are left out are whole.
  show("[3]        one row    ", await model.getSlice(table, 3));
  show("[-1]       the last   ", await model.getSlice(table, -1));
  show("[10:12]    two rows   ", await model.getSlice(table, [10, 12]));
  show("[0:100:25] every 25th ", await model.getSlice(table, [0, 100, 25]));
  if (shape.length > 1) {
    show("[:, 0]     one column ", await model.getSlice(table, null, 0));
    show("[..., 0:2] two columns", await model.getSlice(table, "...", [0, 2]));
  }
  console.log(`${model.stats().bytes} bytes were read`);
} finally {
  if (made) await Deno.remove(made);
}

function show(what: string, { shape, data, byteLength }: HostTensor): void {
  const first = [...data.subarray(0, 3)].join(", ");
  console.log(`${what}  [${shape}], ${byteLength} bytes: ${first}, …`);
}

/** A table whose element in row r and column c is 64 r + c. */
async function makeFile(): Promise<string> {
  const path = await Deno.makeTempFile({ suffix: ".safetensors" });
  const data = Float32Array.from({ length: 1000 * 64 }, (_, index) => index);
  await Deno.writeFile(path, serialize({ table: { dtype: "F32", shape: [1000, 64], data } }));
  return path;
}
