/** One rank that makes a group, or says why it cannot. */
import { MpiGroup } from "../../../src/ranks/group/mpi_group.ts";
import { say } from "./say.ts";

/** The signals that this process handles, as a mask. */
function caughtSignals(): string {
  return /^SigCgt:\s*(\w+)/m.exec(Deno.readTextFileSync("/proc/self/status"))![1]!;
}

const before = caughtSignals();
const rank = Number(Deno.env.get("OMPI_COMM_WORLD_RANK") ?? Deno.env.get("PMI_RANK") ?? 0);
let closed: MpiGroup | undefined;
try {
  await using group = closed = await MpiGroup.create({ timeoutSeconds: 20 });
  await group.barrier();
  // No machine has device 99.
  const device = await group.broadcast({ devicePointer: 4096n, byteLength: 4, device: 99 }, 0)
    .then(() => "", (error) => `${error.name}: ${error.message}`);
  const handlers = { before, after: caughtSignals() };
  say({ rank, size: group.size, family: group.family, library: group.library, device, handlers });
} catch (error) {
  const { name, message, library } = error as Error & { library?: string };
  say({ rank, name, message, library });
}
if (closed) {
  // All of these reject, without a handler.
  const block = new Uint8Array(1);
  void closed.broadcast(block, 0);
  void closed.broadcast(block, 99);
  void closed.scatter(null, block, 0);
  void closed.send(block, 99);
  void closed.receive(block, 99);
  void closed.barrier();
  void closed.agree({ ok: true });
  void closed.allGather(1);
  void closed.split(0);
  await new Promise((resolve) => setTimeout(resolve, 20));
}
