/**
 * One rank that moves device memory, on the stand-in for CUDA and NCCL, and says what it got. Arguments: how the ranks
 * talk (nccl: NCCL by itself, mpi-nccl: NCCL over MPI's ranks, mpi: MPI), and what the last rank does in the end.
 */
import { releasesDone } from "../../../ffi/cuda_release.ts";
import { PIECE } from "../../../ffi/group_call.ts";
import { openLibrary } from "../../../ffi/library.ts";
import { MpiGroup } from "../../../src/ranks/group/mpi_group.ts";
import { NcclGroup } from "../../../src/ranks/group/nccl_group.ts";
import type { DeviceMemory, ProcessGroup } from "../../../src/ranks/group/process_group.ts";
import { digest, pattern } from "./ranks.ts";
import { say } from "./say.ts";

const [way, mode] = Deno.args as [string, string];
const timeoutSeconds = mode === "calls" ? 60 : 2;
const TO_DEVICE = 1;

const sim = Deno.dlopen(Deno.env.get("FASTSAFETENSORS_CUDART_LIB")!, {
  cudaMalloc: { parameters: ["buffer", "usize"], result: "i32" },
  cudaMemcpy: { parameters: ["u64", "buffer", "usize", "i32"], result: "i32" },
  cudaFree: { parameters: ["u64"], result: "i32" },
  fst_sim_peek: { parameters: ["u64", "buffer", "usize"], result: "i32" },
  fst_sim_violations: { parameters: [], result: "u64" },
  fst_sim_live_total: { parameters: [], result: "u64" },
  fst_sim_report: { parameters: ["buffer", "usize"], result: "i32" },
}).symbols;
const allocated: bigint[] = [];

function onDevice(bytes: Uint8Array<ArrayBuffer>): DeviceMemory {
  const pointer = new BigUint64Array(1);
  const { byteLength } = bytes;
  if (byteLength === 0) return { devicePointer: 0n, byteLength, device: 0 };
  if (sim.cudaMalloc(pointer, BigInt(byteLength)) !== 0) throw new Error("cudaMalloc failed");
  if (sim.cudaMemcpy(pointer[0]!, bytes, BigInt(byteLength), TO_DEVICE) !== 0) {
    throw new Error("cudaMemcpy failed");
  }
  allocated.push(pointer[0]!);
  return { devicePointer: pointer[0]!, byteLength, device: 0 };
}

function digestOf({ devicePointer, byteLength }: DeviceMemory): Promise<string> {
  const bytes = new Uint8Array(byteLength);
  if (byteLength > 0 && sim.fst_sim_peek(devicePointer, bytes, BigInt(byteLength)) !== 0) {
    throw new Error("no memory");
  }
  return digest(bytes);
}

/** The most pinned memory that there ever was, in bytes. */
function mostPinned(): number {
  const report = new Uint8Array(65536);
  const length = sim.fst_sim_report(report, BigInt(report.byteLength));
  return JSON.parse(new TextDecoder().decode(report.subarray(0, length))).peak.pinnedBytes;
}

/** What each rank gets of a scatter. */
function deviceLengths(size: number): number[] {
  return Array.from({ length: size }, (_, rank) => rank % 3 === 1 ? 0 : 70_001 * (rank + 1));
}

async function calls(group: ProcessGroup): Promise<string[]> {
  const { rank, size } = group;
  const got: DeviceMemory[] = [];
  for (let root = 0; root < size; root++) {
    for (const length of [0, 1, 200_003]) {
      const block = onDevice(rank === root ? pattern(root, length) : new Uint8Array(length));
      await group.broadcast(block, root);
      got.push(block);
    }
    const lengths = deviceLengths(size);
    const block = onDevice(pattern(root + 9, lengths.reduce((sum, length) => sum + length, 0)));
    const receive = onDevice(new Uint8Array(lengths[rank]!));
    await group.scatter(rank === root ? { block, lengths } : null, receive, root);
    got.push(receive);
  }
  const blocks = Array.from({ length: 12 }, (_, index) => {
    const root = (index * 3) % size;
    const length = index * 8009;
    return { block: onDevice(rank === root ? pattern(index + 30, length) : new Uint8Array(length)), root };
  });
  await group.broadcastAll(blocks);
  got.push(...blocks.map((one) => one.block));
  const block = onDevice(rank === 0 ? pattern(77, 5000) : new Uint8Array(5000));
  for (let other = 1; other < size; other++) {
    if (rank === 0) await group.send(block, other, other);
    if (rank === other) await group.receive(block, 0, other);
  }
  got.push(block);
  return await Promise.all(got.map(digestOf));
}

/** Which errors there are for memory that cannot be moved. */
async function refusals(group: ProcessGroup): Promise<string[]> {
  const blocks = [new Uint8Array(4), { devicePointer: 4096n, byteLength: 4, device: 1 }];
  return await Promise.all(
    blocks.map((block) =>
      group.broadcast(block, 0).then(() => "", (error) => `${error.name}: ${error.message}`)
    ),
  );
}

async function lastCall(group: ProcessGroup): Promise<void> {
  const fails = group.rank === group.size - 1;
  const block = onDevice(new Uint8Array(100_000));
  if (fails && mode === "throw") throw new Error("the file is truncated");
  if (fails && mode === "kill") Deno.kill(Deno.pid, "SIGKILL");
  if (fails && mode === "hang") return await new Promise((resolve) => setTimeout(resolve, 5000));
  if (fails && mode === "abort") return await group.abort("no memory");
  if (fails && mode === "order") return await group.barrier();
  if (fails && mode === "link") Deno.env.set("FST_SIM_NCCL_FAIL", "1"); // this process's first group of calls
  try {
    await group.broadcast(block, 0, "weights");
  } catch (error) {
    // The memory is free again once the call has rejected: cudaFree waits for what still uses the device.
    if (mode === "link") { for (const pointer of allocated) sim.cudaFree(pointer); }
    throw error;
  }
}

async function create(): Promise<ProcessGroup> {
  if (way === "nccl") return await NcclGroup.create({ device: 0, timeoutSeconds });
  const mpi = await MpiGroup.create({ timeoutSeconds });
  return way === "mpi" ? mpi : await NcclGroup.create({ group: mpi, device: 0, timeoutSeconds });
}

async function run(): Promise<void> {
  PIECE.bytes = 30_000;
  const start = performance.now();
  const rank = Number(
    Deno.env.get("RANK") ?? Deno.env.get("OMPI_COMM_WORLD_RANK") ?? Deno.env.get("PMI_RANK"),
  );
  try {
    const group = await create();
    const { kind, size } = group;
    if (mode === "calls") {
      const digests = await calls(group);
      const refused = kind === "nccl" ? await refusals(group) : [];
      const gathered = await group.allGather({ rank });
      await group.agree({ ok: true });
      await group.close();
      await releasesDone((await openLibrary()).shim!);
      for (const pointer of allocated) sim.cudaFree(pointer);
      const left = Number(sim.fst_sim_live_total());
      const violations = Number(sim.fst_sim_violations());
      const said = { rank, size, kind, digests, refused, gathered, left, violations, pinned: mostPinned() };
      say(said);
    } else {
      await lastCall(group).finally(() => group.close());
    }
  } catch (error) {
    const { name, message, rank: blamed } = error as Error & { rank?: number };
    if (name === "Error") throw error;
    say({ rank, name, message, blamed, seconds: (performance.now() - start) / 1000 });
    Deno.exitCode = 1;
  }
}

await run();
