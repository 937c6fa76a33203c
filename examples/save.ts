/**
 * Save tensors in one file and in shards, load both again, and compare every byte.
 *
 *     deno run -A examples/save.ts [folder]
 *
 * Without an argument it makes a folder, and removes it at the end.
 */
import { fastsafeOpen, type HostTensor, saveFile, type SaveReport } from "@x/fastsafetensors";

const made = Deno.args[0] === undefined ? await Deno.makeTempDir() : null;
const folder = made ?? Deno.args[0]!;
try {
  const tensors = makeModel();
  const metadata = { format: "pt" };

  const one = await saveFile(tensors, `${folder}/one.safetensors`, { metadata, overwrite: true });
  tell("one file", one);

  // Shards are named as on the Hub, and an index says which shard has which tensor.
  const shards = await saveFile(tensors, `${folder}/model.safetensors`, {
    metadata,
    maxShardBytes: 2 * 2 ** 20,
    overwrite: true,
  });
  tell("shards  ", shards);
  for (const [name, target] of shards.aliases) {
    console.log(`  ${name} has the same memory as ${target}: written once`);
  }

  await using loaded = await fastsafeOpen(one.paths[0]!);
  await using sharded = await fastsafeOpen(shards.paths.at(-1)!);
  for (const name of loaded.keys()) {
    const { dtype, shape, data } = tensors[name]!;
    const expected = new Uint8Array(data.buffer);
    for (const tensor of [await loaded.getTensor(name), await sharded.getTensor(name)]) {
      if (!isSame(tensor, dtype, shape, expected)) throw new Error(`"${name}" came back as something else`);
    }
  }
  console.log(
    `${loaded.keys().length} tensors have the same bytes after loading, from one file and from the shards`,
  );

  // A model streams from file to file, here with a cast; it may be larger than memory.
  await using source = await fastsafeOpen(shards.paths.at(-1)!, { lazy: true });
  const half = await saveFile(source, `${folder}/half.safetensors`, {
    dtype: "BF16",
    metadata: source.metadata(), // with the alias
    overwrite: true,
  });
  tell("as BF16 ", half);
} finally {
  if (made) await Deno.remove(made, { recursive: true });
}

function tell(what: string, { paths, tensors, bytes }: SaveReport): void {
  const names = paths.map((path) => path.slice(path.lastIndexOf("/") + 1));
  console.log(`${what}: ${tensors} tensors, ${bytes} bytes in ${names.join(", ")}`);
}

/** Four layers, and a head that is the same tensor as the embedding. */
function makeModel() {
  const layer = (seed: number, rows: number) => ({
    dtype: "F32" as const,
    shape: [rows, 512],
    data: Float32Array.from({ length: rows * 512 }, (_, index) => Math.sin(seed + index)),
  });
  const embedding = layer(0, 1000);
  const model: Record<string, typeof embedding> = { "embed.weight": embedding };
  for (let n = 0; n < 4; n++) model[`layers.${n}.weight`] = layer(n + 1, 512);
  model["lm_head.weight"] = embedding;
  return model;
}

function isSame(tensor: HostTensor, dtype: string, shape: readonly number[], expected: Uint8Array): boolean {
  return tensor.dtype === dtype && String(tensor.shape) === String(shape) &&
    tensor.bytes.every((byte, index) => byte === expected[index]);
}
