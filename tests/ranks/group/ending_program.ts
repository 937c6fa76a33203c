/**
 * Ranks whose calls end before their bytes have moved. The first argument says what happens.
 */
import { PIECE } from "../../../ffi/group_call.ts";
import { fastsafeOpen, serialize } from "../../../mod.ts";
import { recordOf } from "../../../src/ranks/group/call_record.ts";
import { mpiControl, MpiGroup } from "../../../src/ranks/group/mpi_group.ts";
import { say } from "./say.ts";

const MIB = 2 ** 20;
const [mode, ...words] = Deno.args as [string, ...string[]];

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** What a call ended with, in words. */
function outcome(call: Promise<unknown>): Promise<string> {
  return call.then(() => "done", (error: Error) => `${error.name}: ${error.message}`);
}

/** Rank 0 stands still in the midst of a piece; rank 1 aborts, drops the block, and looks at what it has allocated since. */
async function foreign(): Promise<void> {
  PIECE.bytes = 64 * MIB;
  const group = await MpiGroup.create({ timeoutSeconds: 60 });
  const other = await MpiGroup.create({ timeoutSeconds: 60 });
  const [sender] = await group.allGather(Deno.pid) as number[];
  if (group.rank === 0) {
    const ended = await outcome(group.send(new Uint8Array(128 * MIB).fill(7), 1));
    say({ rank: 0, ended, after: await outcome(other.barrier()) });
    return await Promise.all([group.close(), other.close()]).then(() => {});
  }
  const receive = () => {
    const block = new Uint8Array(128 * MIB).fill(1);
    const started = Promise.withResolvers<void>();
    const look = setInterval(() => {
      if (block[4 * MIB] !== 7) return;
      Deno.kill(sender!, "SIGSTOP");
      clearInterval(look);
      started.resolve();
    });
    return { ended: outcome(group.receive(block, 0)), started: started.promise };
  };
  const { ended, started } = receive();
  await started;
  await group.abort("enough");
  const said = await ended;
  for (let times = 0; times < 6; times++) {
    (globalThis as unknown as { gc(): void }).gc();
    await pause(50);
  }
  const fresh = Array.from({ length: 2 }, () => new Uint8Array(128 * MIB).fill(0x5a));
  Deno.kill(sender!, "SIGCONT");
  const after = await outcome(other.barrier());
  await pause(300);
  const changed = fresh.map(changedAt);
  say({ rank: 1, ended: said, after, changed });
  await Promise.all([group.close(), other.close()]);
}

/** The first place in each 64 bytes where something else than what was written is; -1: none. */
function changedAt(bytes: Uint8Array): number {
  for (let at = 0; at < bytes.byteLength; at += 64) if (bytes[at] !== 0x5a) return at;
  return -1;
}

async function afterClose(): Promise<void> {
  const group = await MpiGroup.create({ timeoutSeconds: 10 });
  await group.close();
  const aborted = await outcome(group.abort("late"));
  say({
    rank: group.rank,
    aborted,
    used: await outcome(group.barrier()),
    closed: await outcome(group.close()),
  });
}

/** The group is closed so many turns of the event loop after a model's operation has begun. */
async function closeBetween(turns: number): Promise<void> {
  const group = await MpiGroup.create({ timeoutSeconds: 10 });
  const [folder] = await group.allGather(group.rank === 0 ? await Deno.makeTempDir() : "") as string[];
  const path = `${folder}/m.safetensors`;
  if (group.rank === 0) {
    const w = { dtype: "F32", shape: [256, 256], data: new Float32Array(65536) } as const;
    await Deno.writeFile(path, serialize({ w }));
  }
  await group.barrier();
  const model = await fastsafeOpen(path, { group });
  await model.whenLoaded();
  await group.barrier();
  if (group.rank === 0) await Deno.remove(folder!, { recursive: true });
  const got = outcome(model.getTensor("w"));
  for (let turn = 0; turn < turns; turn++) await Promise.resolve();
  say({ rank: group.rank, closed: await outcome(group.close()), got: await got });
}

/** Every rank ends while calls wait, and while bytes move. */
async function exit(): Promise<void> {
  const group = await MpiGroup.create({ timeoutSeconds: 60 });
  const other = await MpiGroup.create({ timeoutSeconds: 60 });
  await group.barrier();
  if (group.rank === 0) void outcome(other.barrier());
  for (let index = 0; index < 8; index++) {
    void outcome(group.broadcast(new Uint8Array(32 * MIB), index % group.size));
  }
  await pause(60 + 30 * group.rank);
  Deno.exit(0);
}

/** Rank 1 comes late to a split, after it was in a call of another group. */
async function late(): Promise<void> {
  const group = await MpiGroup.create({ timeoutSeconds: 60 });
  const other = await MpiGroup.create({ timeoutSeconds: 60 });
  const said: string[] = [];
  const note = (text: string, call: Promise<unknown>) =>
    outcome(call).then((how) => said.push(`${text} ${how}`));
  if (group.rank === 0) {
    const split = note("split", group.split(0).then((part) => part.close()));
    await note("barrier", other.barrier());
    await note("abort", other.abort("gave up"));
    await group.allGather(0).catch(() => {}); // behind the split
    await split;
  } else {
    await note("barrier", other.barrier());
    await note("failed barrier", other.barrier());
    await note("split", group.split(0).then((part) => part.close()));
    await group.allGather(0);
  }
  say({ rank: group.rank, said });
  await Promise.all([group.close(), other.close()]);
}

/** Rank 2 closes its group after its part of a call, while bytes still move between the others, as those of NCCL do. */
async function leave(): Promise<void> {
  const group = await MpiGroup.create({ timeoutSeconds: 60 });
  const control = mpiControl(await group.split(0));
  const { rank } = control;
  const broadcast = recordOf("broadcast", rank, { bytes: 6 });
  await control.meet(broadcast);
  if (rank === 2) {
    await control.close();
    await group.barrier();
    return await group.close();
  }
  let cancelled = false;
  await control.during(broadcast, () => cancelled = true, async () => {
    await group.barrier();
    await pause(400); // longer than the reason of a rank that has left is waited for
  });
  const looked = control.look()?.message ?? null;
  const pair = recordOf(rank === 0 ? "send" : "receive", rank, { root: 0, bytes: 1 });
  const paired = await outcome(control.meet(pair, 1 - rank));
  const then = await outcome(control.meet(recordOf("barrier", rank)));
  say({ rank, cancelled, looked, paired, then });
  await Promise.all([control.close(), group.close()]);
}

switch (mode) {
  case "foreign":
    await foreign();
    break;
  case "after close":
    await afterClose();
    break;
  case "close between":
    await closeBetween(Number(words[0]));
    break;
  case "exit":
    await exit();
    break;
  case "late":
    await late();
    break;
  case "leave":
    await leave();
}
