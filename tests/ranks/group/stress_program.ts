/**
 * One rank of a stress job. In each round a part of all ranks makes calls of random kinds and lengths, and one of them may
 * abort, close, or dispose at a random moment; then the process ends in a random way. Whatever happens, no memory changes
 * but that of the calls. Arguments: seed, rounds. With FASTSAFETENSORS_NCCL_LIB some rounds move device memory by NCCL.
 */
import { PIECE } from "../../../ffi/group_call.ts";
import { type CudaTensor, fastsafeOpen, serialize } from "../../../mod.ts";
import { MpiGroup } from "../../../src/ranks/group/mpi_group.ts";
import { NcclGroup } from "../../../src/ranks/group/nccl_group.ts";
import type { ProcessGroup } from "../../../src/ranks/group/process_group.ts";
import { endingOf, random } from "./stress_plan.ts";

const GUARD = 4096;
const OWN = 0xa5;
const FRESH = 0x5a;
const ROUNDS_HELD = 3;
const EXPECTED = ["GroupError", "UseAfterCloseError"];

const [seed, rounds] = Deno.args.map(Number) as [number, number];
const shared = random(seed); // the same on every rank
const world = await MpiGroup.create({ timeoutSeconds: 60 });
const own = random(seed * 64 + world.rank + 1);

/** Memory that must not change: until which round, and what is written all over it or around the bytes of a call. */
interface Held {
  readonly until: number;
  readonly bytes: Uint8Array;
  readonly value: number;
}
const held: Held[] = [];

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Awaits calls that may fail as group calls do. */
async function settle(calls: readonly Promise<unknown>[]): Promise<void> {
  for (const outcome of await Promise.allSettled(calls)) {
    if (outcome.status === "rejected" && !EXPECTED.includes(outcome.reason?.name)) throw outcome.reason;
  }
}

function check(round: number): void {
  for (const { bytes, value } of held) {
    for (let at = 0; at < bytes.byteLength; at += 8) {
      if (bytes[at] !== value) {
        throw new Error(`A foreign byte ${bytes[at]} at ${at} of ${bytes.byteLength} bytes`);
      }
    }
  }
  for (let index = held.length - 1; index >= 0; index--) {
    if (held[index]!.until <= round || own(4) === 0) held.splice(index, 1);
  }
}

/** Bytes for a call, between two guards. */
function guarded(round: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length + 2 * GUARD);
  for (const guard of [bytes.subarray(0, GUARD), bytes.subarray(GUARD + length)]) {
    guard.fill(OWN);
    held.push({ until: round + ROUNDS_HELD, bytes: guard, value: OWN });
  }
  return bytes.subarray(GUARD, GUARD + length);
}

/** Begins a call of the group, the same on all its ranks. */
function begin(group: ProcessGroup, block: (length: number) => Uint8Array<ArrayBuffer>): Promise<unknown> {
  const { rank, size } = group;
  const root = shared(size), kind = shared(7), length = shared(2) === 0 ? shared(3000) : shared(3 * 2 ** 20);
  const count = 1 + shared(24);
  switch (kind) {
    case 0:
      return group.broadcast(block(length), root);
    case 1:
    case 2: {
      const bytes = length >> 3;
      return group.broadcastAll(Array.from({ length: count }, (_, index) => {
        return { block: block(bytes + index), root: index % size };
      }));
    }
    case 3: {
      const lengths = Array.from({ length: size }, (_, index) => index * 1000 + (length >> 2));
      const send = { block: block(lengths.reduce((sum, one) => sum + one, 0)), lengths };
      return group.scatter(rank === root ? send : null, block(lengths[rank]!), root);
    }
    case 4: {
      const next = (root + 1) % size;
      if (next === root || (rank !== root && rank !== next)) return Promise.resolve();
      return rank === root ? group.send(block(length), next) : group.receive(block(length), root);
    }
    case 5:
      return group.allGather({ rank, text: "x".repeat(length % 5000) });
    default:
      return group.barrier();
  }
}

/** Something that ends calls, on one rank or on all, at a random moment. */
async function disturb(group: ProcessGroup): Promise<void> {
  const kind = shared(5), culprit = shared(group.size + 1); // the last number: all of them
  const ms = own(3) === 0 ? 0 : own(25);
  if (kind === 0 || (culprit < group.size && culprit !== group.rank)) return;
  if (ms > 0) await pause(ms);
  if (kind < 3) await group.abort("stress");
  if (kind > 1) await group.close();
  if (own(2) === 0) await group.abort("stress again");
}

async function hostRound(round: number): Promise<void> {
  PIECE.bytes = [4096, 100_000, 2 ** 20, 16 * 2 ** 20][shared(4)]!;
  const group = await world.split(0, shared(2) === 0 ? -world.rank : world.rank);
  const calls = Array.from({ length: 6 }, () => {
    const call = begin(group, (length) => guarded(round, length));
    call.catch(() => {});
    return call;
  });
  const fresh = new Uint8Array(1 + own(2 ** 22)).fill(FRESH);
  held.push({ until: round + ROUNDS_HELD, bytes: fresh, value: FRESH });
  await settle([disturb(group), ...calls]);
  await settle([group.close()]);
}

/** A tensor on the device. */
async function tensor(length: number): Promise<CudaTensor> {
  const path = await Deno.makeTempFile({ suffix: ".safetensors" });
  const t = { dtype: "U8", shape: [length], data: new Uint8Array(length) } as const;
  await Deno.writeFile(path, serialize({ t }));
  await using model = await fastsafeOpen(path, { device: "cuda:0" });
  await Deno.remove(path);
  return await model.getTensor("t") as CudaTensor;
}

async function deviceRound(): Promise<void> {
  const group = await NcclGroup.create({ group: world, device: 0, timeoutSeconds: 20 });
  const length = 1 + shared(300_000);
  const tensors = await Promise.all(Array.from({ length: 4 }, () => tensor(length)));
  const memory = tensors.slice(1).map(({ devicePointer, byteLength }) => ({
    devicePointer,
    byteLength,
    device: 0,
  }));
  const calls = memory.map((block) => {
    const call = group.broadcast(block, shared(group.size));
    call.catch(() => {});
    return call;
  });
  const dispose = async () => {
    await pause(own(10));
    tensors[0]![Symbol.dispose](); // another one than those that move
  };
  await settle([disturb(group), dispose(), ...calls]);
  for (const one of tensors.slice(1)) one[Symbol.dispose]();
  await settle([group.close()]);
}

async function end(): Promise<void> {
  const ending = endingOf(seed);
  if (ending === "close") return await world.close();
  const part = await world.split(0);
  const last = world.rank === world.size - 1;
  for (let index = 0; index < 6; index++) {
    begin(index % 2 ? part : world, (length) => guarded(rounds, length)).catch(() => {});
  }
  await pause(own(30));
  if (ending === "exit") Deno.exit(0);
  if (last && ending === "fail") Deno.exit(3);
  if (last && ending === "throw") throw new RangeError("stress");
  await settle([world.barrier(), part.barrier()]);
  await settle([part.close(), world.close()]);
}

const device = Deno.env.has("FASTSAFETENSORS_NCCL_LIB") && world.size > 1;
for (let round = 0; round < rounds; round++) {
  if (device && shared(3) === 0) await deviceRound();
  else await hostRound(round);
  check(round);
}
await end();
