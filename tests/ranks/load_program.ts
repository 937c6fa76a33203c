/**
 * One rank that takes the files of a folder in every way there is, and writes what it got to a file there: SHA-256 of
 * every tensor. Arguments: "mpi", "nccl" or "mpi-nccl" (NCCL on the ranks of MPI),
 * the device, folder, files.
 */
import { fastsafeOpen, type Tensor } from "../../mod.ts";
import { ParallelLoader, SafeTensorsFileLoader } from "../../src/compat/mod.ts";
import { MpiGroup, NcclGroup } from "../../src/ranks/mod.ts";
import type { CudaTensor, DeviceOption, HostTensor } from "../../mod.ts";
import type { ProcessGroup } from "../../src/ranks/mod.ts";
import { digest } from "./group/ranks.ts";
import { say } from "./group/say.ts";

/** What a tensor came out as: `dtype [shape] digest`. Its handle is given up. */
export async function summary(
  tensor: Pick<HostTensor, "dtype" | "shape" | "bytes"> | Tensor,
): Promise<string> {
  const { dtype, shape, bytes } = "bytes" in tensor ? tensor : await (tensor as CudaTensor).copyToHost();
  if (Symbol.dispose in tensor) tensor[Symbol.dispose]!();
  return `${dtype} [${shape}] ${await digest(bytes)}`;
}

async function summaries(tensors: Iterable<readonly [string, Tensor]>): Promise<Record<string, string>> {
  const all: Record<string, string> = {};
  for (const [name, tensor] of tensors) all[name] = await summary(tensor);
  return all;
}

async function run(
  way: string,
  device: DeviceOption,
  folder: string,
  names: readonly string[],
): Promise<void> {
  const timeoutSeconds = 60;
  await using mpi = way === "nccl" ? null : await MpiGroup.create({ timeoutSeconds });
  const ranks = mpi ? { group: mpi } : {};
  await using group: ProcessGroup = way === "mpi"
    ? mpi!
    : await NcclGroup.create({ timeoutSeconds, device: 0, ...ranks });
  const { rank, size } = group;
  const paths = names.map((name) => `${folder}/${name}`);
  const byRank: Record<number, string[]> = {};
  for (const [index, path] of paths.entries()) (byRank[index % size] ??= []).push(path);
  const said: Record<string, unknown> = { rank, size };

  await using loader = new SafeTensorsFileLoader(group, { device });
  await loader.addFilenames(byRank);
  {
    await using buffer = await loader.copyFilesToDevice();
    said.keys = buffer.getKeys();
    said.files = buffer.stats().files;
    const whole: [string, Tensor][] = [];
    for (const name of buffer.getKeys()) whole.push([name, await buffer.getTensor(name)]);
    said.whole = await summaries(whole);
    said.bytes = buffer.stats().bytes;
    said.again = await buffer.getTensor("matrix").then((tensor) => summary(tensor), (error) => error.name);
  }
  await loader.addFilenames(byRank);
  {
    await using buffer = await loader.copyFilesToDevice();
    const parts: [string, Tensor][] = [];
    const called = buffer.getKeys().filter((name) => buffer.getShape(name).length > 0);
    // Called at once: the calls of the group still come one after another, the same everywhere.
    await Promise.all(called.map(async (name) => {
      const dimension = buffer.getShape(name).length - 1;
      parts.push([name, await buffer.getSharded(name, dimension)]);
      parts.push([`${name} from file`, await buffer.getSharded(name, 0, { from: "file" })]);
    }));
    said.parts = await summaries(parts);
  }
  await loader.addFilenames(byRank);
  {
    await using buffer = await loader.copyFilesToDevice();
    const pushed: [string, Tensor][] = [];
    for (const [index, name] of buffer.getKeys().entries()) {
      const tensor = await buffer.pushTensor(name, index % size);
      if (tensor) pushed.push([name, tensor]);
    }
    said.pushed = await summaries(pushed);
  }
  {
    await using model = await fastsafeOpen(paths, { group, device, lazy: true });
    const first = model.keys().slice(0, 2);
    said.sliced = await Promise.all(first.map(async (name) => summary(await model.getSlice(name, [1, 3]))));
  }
  const order: string[] = [];
  const streamed: [string, Tensor][] = [];
  const iterated = new ParallelLoader(group, paths, { device, queueSize: 1, maxBytesInFlight: 600 });
  for await (const [name, tensor] of iterated.iterateWeights()) {
    order.push(name);
    streamed.push([name, tensor]);
  }
  said.order = order;
  said.streamed = await summaries(streamed);
  const many: Record<string, string> = {};
  const files = Object.fromEntries(
    Array.from({ length: size }, (_, other) => [other, `${folder}/many${other}`]),
  );
  for (const last of [Infinity, 3]) { // all ranks end the second iteration when there is much more to come
    await using model = await fastsafeOpen(files, { group, device });
    let count = 0;
    for await (const [name, tensor] of model) {
      many[name] = await summary(tensor);
      if (++count === last) break;
    }
  }
  said.many = many;
  if (device === "cuda" && Deno.env.get("FASTSAFETENSORS_TEST_GPU") !== "real") {
    said.left = await leftOnStandIn();
  }
  // Not on standard output: Open MPI mixes up the long lines of several ranks.
  await Deno.writeTextFile(`${folder}/said.${rank}`, JSON.stringify(said));
  say({ rank });
}

/** What the stand-in for CUDA has seen that should not be: bytes of device memory that are left, and misuse. */
async function leftOnStandIn(): Promise<{ deviceBytes: number; violations: number }> {
  const sim = Deno.dlopen(Deno.env.get("FASTSAFETENSORS_CUDART_LIB")!, {
    fst_sim_report: { parameters: ["buffer", "usize"], result: "i32" },
  });
  // Memory is freed in the background: it has five seconds.
  for (let tries = 0;; tries++) {
    const bytes = new Uint8Array(65536);
    const length = sim.symbols.fst_sim_report(bytes, BigInt(bytes.byteLength));
    const { live, violations } = JSON.parse(new TextDecoder().decode(bytes.subarray(0, length)));
    if (live.deviceBytes === 0 || tries === 100) {
      return { deviceBytes: live.deviceBytes, violations: violations.total };
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

if (import.meta.main) {
  const [way, device, folder, ...names] = Deno.args as [string, DeviceOption, string, ...string[]];
  await run(way, device, folder, names);
}
