/**
 * One rank under MPI that takes the files of a folder in every way there is, and writes what it got to a file there:
 * SHA-256 of every tensor. Arguments: folder, files.
 */
import { fastsafeOpen, type HostTensor, ParallelLoader, SafeTensorsFileLoader } from "../../mod.ts";
import { MpiGroup } from "../../src/group/mpi_group.ts";
import { digest } from "../group/ranks.ts";

/** What a tensor came out as: `dtype [shape] digest`. */
export async function summary(
  { dtype, shape, bytes }: Pick<HostTensor, "dtype" | "shape" | "bytes">,
): Promise<string> {
  return `${dtype} [${shape}] ${await digest(bytes)}`;
}

async function run(folder: string, names: readonly string[]): Promise<void> {
  await using group = await MpiGroup.create({ timeoutSeconds: 60 });
  const { rank, size } = group;
  const paths = names.map((name) => `${folder}/${name}`);
  const byRank: Record<number, string[]> = {};
  for (const [index, path] of paths.entries()) (byRank[index % size] ??= []).push(path);
  const said: Record<string, unknown> = { rank, size };
  const summaries = async (tensors: Iterable<readonly [string, HostTensor]>) => {
    const all: Record<string, string> = {};
    for (const [name, tensor] of tensors) all[name] = await summary(tensor);
    return all;
  };

  await using loader = new SafeTensorsFileLoader(group);
  await loader.addFilenames(byRank);
  {
    await using buffer = await loader.copyFilesToDevice();
    said.keys = buffer.getKeys();
    said.files = buffer.stats().files;
    const whole: [string, HostTensor][] = [];
    for (const name of buffer.getKeys()) whole.push([name, await buffer.getTensor(name)]);
    said.whole = await summaries(whole);
    said.bytes = buffer.stats().bytes;
    said.again = await buffer.getTensor("matrix").then(() => null, (error) => error.name);
  }
  await loader.addFilenames(byRank);
  {
    await using buffer = await loader.copyFilesToDevice();
    const parts: [string, HostTensor][] = [];
    const called = buffer.getKeys().filter((name) => buffer.getShape(name).length > 0);
    // Called at once: the calls of the group still come one after another, the same everywhere.
    await Promise.all(called.map(async (name) => {
      const dimension = buffer.getShape(name).length - 1;
      parts.push([name, await buffer.getSharded(name, dimension)]);
      const file = await buffer.getSharded(name, 0, { from: "file" });
      parts.push([`${name} from file`, file]);
    }));
    said.parts = await summaries(parts);
  }
  await loader.addFilenames(byRank);
  {
    await using buffer = await loader.copyFilesToDevice();
    const pushed: [string, HostTensor][] = [];
    for (const [index, name] of buffer.getKeys().entries()) {
      const tensor = await buffer.pushTensor(name, index % size);
      if (tensor) pushed.push([name, tensor]);
    }
    said.pushed = await summaries(pushed);
  }
  await using model = await fastsafeOpen(paths, { group, lazy: true });
  const first = model.keys().slice(0, 2);
  said.sliced = await Promise.all(
    first.map(async (name) => await summary(await model.getSlice(name, [1, 3]))),
  );

  const order: string[] = [];
  const streamed: [string, HostTensor][] = [];
  const iterated = new ParallelLoader(group, paths, { queueSize: 1, maxBytesInFlight: 600 });
  for await (const [name, tensor] of iterated.iterateWeights()) {
    order.push(name);
    streamed.push([name, tensor]);
  }
  said.order = order;
  said.streamed = await summaries(streamed);
  // Not on standard output: Open MPI mixes up the long lines of several ranks.
  await Deno.writeTextFile(`${folder}/said.${rank}`, JSON.stringify(said));
  console.log(JSON.stringify({ rank }));
}

if (import.meta.main) await run(Deno.args[0]!, Deno.args.slice(1));
