/**
 * Ranks of which the last does what the first argument says, while the others go on: each says which error it saw, and
 * how long after. The second argument is the kind of group.
 */
import { MpiGroup } from "../../../src/ranks/group/mpi_group.ts";
import type { ProcessGroup } from "../../../src/ranks/group/process_group.ts";
import { say } from "./say.ts";

const BLOCK_BYTES = 1 << 20;
const mode = Deno.args[0]!;
const timeoutSeconds = 2;
const start = performance.now();

function sayError(group: ProcessGroup, error: unknown): void {
  const { name, message, rank, reason } = error as Error & { rank?: number; reason?: string };
  const seconds = (performance.now() - start) / 1000;
  say({ rank: group.rank, name, message, blamed: rank, reason, seconds });
  Deno.exitCode = 1;
}

async function failingRank(group: ProcessGroup): Promise<void> {
  const block = new Uint8Array(BLOCK_BYTES);
  switch (mode) {
    case "throw":
      throw new Error("the file is truncated");
    case "reject":
      Promise.reject(new Error("the file is truncated"));
      return await new Promise((resolve) => setTimeout(resolve, 5000));
    case "exit":
      return Deno.exit(3);
    case "leave":
      return Deno.exit(0);
    case "close":
      return await group.close();
    case "abort":
      return await group.abort("no memory");
    case "kill":
      return Deno.kill(Deno.pid, "SIGKILL");
    case "hang":
      return await new Promise((resolve) => setTimeout(resolve, 6000));
    case "order":
      return await group.barrier("elsewhere");
    case "bytes":
      return await group.broadcast(block.subarray(1), 0, "weights");
    case "root":
      return await group.broadcast(block, 1, "weights");
    case "label":
      return await group.broadcast(block, 0, "biases");
    case "pair":
      return await group.send(block, 0);
    case "library": // its MPI fails by itself
      return await group.broadcast(block, 0, "weights");
  }
}

async function run(group: ProcessGroup): Promise<void> {
  await group.barrier();
  const fails = group.rank === group.size - 1;
  try {
    if (mode === "send") { // two ranks that both send first
      if (group.rank < 2) await group.send(new Uint8Array(BLOCK_BYTES), 1 - group.rank);
      else await group.barrier();
    } else if (mode === "length") { // the root has another idea of what the last rank gets
      const lengths = Array.from({ length: group.size }, () => 10);
      const receive = new Uint8Array(fails ? 11 : 10);
      const send = group.rank === 0 ? { block: new Uint8Array(10 * group.size), lengths } : null;
      await group.scatter(send, receive, 0, "rows");
    } else if (mode === "blocks") { // one of many blocks has another name
      const blocks = Array.from({ length: 100 }, (_, index) => {
        const label = fails && index === 70 ? "biases" : `weights ${index}`;
        return { block: new Uint8Array(10), root: index % group.size, label };
      });
      await group.broadcastAll(blocks);
    } else if (mode === "transfer") { // one of many buffers is given away while others are on their way
      const blocks = Array.from({ length: 40 }, (_, index) => {
        return { block: new Uint8Array(BLOCK_BYTES), root: index % group.size };
      });
      const call = group.broadcastAll(blocks);
      if (fails) structuredClone(null, { transfer: [blocks[30]!.block.buffer] });
      await call;
    } else if (mode === "kill between") { // while blocks go to and fro
      if (fails) setTimeout(() => Deno.kill(Deno.pid, "SIGKILL"), 100);
      for (;;) {
        await group.broadcastAll(Array.from({ length: 20 }, (_, index) => {
          return { block: new Uint8Array(4 * BLOCK_BYTES), root: index % group.size };
        }));
      }
    } else if (mode === "stop") { // the last rank stands still in the midst of it
      if (fails) setTimeout(() => Deno.kill(Deno.pid, "SIGSTOP"), 100);
      const block = new Uint8Array(16 * BLOCK_BYTES);
      for (;;) await group.broadcast(block, 0, "weights");
    } else if (fails) {
      await failingRank(group);
    } else {
      await group.broadcast(new Uint8Array(BLOCK_BYTES), 0, "weights");
    }
  } catch (error) {
    if (!["GroupError", "TypeError"].includes((error as Error).name)) throw error;
    sayError(group, error);
    if ((error as Error).name === "TypeError") return; // this rank's own mistake, in its own words
    // It is over for good, with the same words.
    const again = await group.barrier().then(() => null, (error) => error);
    if ((again as Error)?.message !== (error as Error).message) throw again;
  }
}

await using group = await MpiGroup.create({ timeoutSeconds });
await run(group);
