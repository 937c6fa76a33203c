/**
 * Load files on several ranks, as fastsafetensors' own parallel example does: each rank reads its files, and sends
 * whole tensors (broadcast) or one part to each rank (scatter).
 *
 *     mpirun -n 2 deno run -A examples/run_parallel.ts [a.safetensors b.safetensors …]
 *
 * The ranks take the files in turn. Without arguments it makes two small files, and removes them at the end.
 */
import { type HostTensor, serialize } from "@x/fastsafetensors";
import { SafeTensorsFileLoader } from "@x/fastsafetensors/compat";
import { MpiGroup } from "@x/fastsafetensors/ranks";

await using group = await MpiGroup.create(); // all processes of mpirun
const { rank, size } = group;
const made = Deno.args.length === 0 ? await makeFiles() : null;
const files = made?.files ?? Deno.args;
try {
  await using loader = new SafeTensorsFileLoader(group);
  const byRank = Object.fromEntries(
    Array.from({ length: size }, (_, owner) => [owner, files.filter((_, index) => index % size === owner)]),
  );
  await loader.addFilenames(byRank); // rank → its files; only that rank opens them
  await using buffer = await loader.copyFilesToDevice();

  if (rank === 0) {
    for (const name of buffer.getKeys()) {
      console.log(`${name}: [${buffer.getShape(name)}] from ${buffer.getFilename(name)}`);
    }
  }
  await group.barrier();

  // Every rank requests the same tensors in the same order; their owner sends them.
  const names = buffer.getKeys();
  const tensor = await buffer.getTensor(names[0]!); // broadcast
  const sharded = await buffer.getSharded(names.at(-1)!, 1); // columns, scattered
  for (let turn = 0; turn < size; turn++) {
    if (turn === rank) {
      console.log(`RANK ${rank}: tensor_${describe(tensor)}`);
      console.log(`RANK ${rank}: tensor_${describe(sharded, "_sharded")}`);
    }
    await group.barrier();
  }
} finally {
  if (made && rank === 0) await Deno.remove(made.folder, { recursive: true });
}

function describe({ name, dtype, shape, data }: HostTensor, how = ""): string {
  return `${name}${how}=${dtype} [${shape}]: ${[...data.subarray(0, 8)].join(", ")}, …`;
}

/** Two files with one tensor each, made by rank 0, which sends their paths to the others. */
async function makeFiles(): Promise<{ folder: string; files: string[] }> {
  const own = rank === 0 ? await Deno.makeTempDir() : "";
  for (const letter of rank === 0 ? ["a", "b"] : []) {
    const data = Float16Array.from({ length: 16 * 8 }, (_, index) => Math.floor(index / 8)); // its row
    const file = serialize({ [`${letter}0`]: { dtype: "F16", shape: [16, 8], data } }, { fst: "sample" });
    await Deno.writeFile(`${own}/${letter}.safetensors`, file);
  }
  const [folder] = await group.allGather(own) as [string];
  return { folder, files: ["a", "b"].map((letter) => `${folder}/${letter}.safetensors`) };
}
