/**
 * Ranks whose messages arrive when a test says so.
 */
import { assertEquals, assertRejects } from "@std/assert";
import { DeviceError, type GroupError } from "../../../src/base/errors.ts";
import { recordOf } from "../../../src/ranks/group/call_record.ts";
import { GroupControl } from "../../../src/ranks/group/control.ts";
import type { GroupMessage } from "../../../src/ranks/group/hub.ts";

/** A message on its way. */
interface Sent {
  readonly from: number;
  readonly to: number;
  readonly said: GroupMessage;
}

/** Ranks of a group, and what is on its way between them. */
function makeRanks(size: number): { all: GroupControl[]; sent: Sent[]; deliver: (to?: number) => void } {
  const sent: Sent[] = [];
  const all = Array.from({ length: size }, (_, from) => {
    return new GroupControl(from, size, 20, {
      tell: (to, said) => void sent.push({ from, to, said }),
      look: () => {},
      listen: () => ({ [Symbol.dispose]: () => {} }),
      fail: () => {},
      close: () => {},
    });
  });
  /** Delivers what is on its way to a rank, or to all until nothing is. */
  const deliver = (to?: number) => {
    for (let index; (index = sent.findIndex((one) => (to ?? one.to) === one.to)) >= 0;) {
      const [{ from, to, said }] = sent.splice(index, 1) as [Sent];
      all[to]!.take(from, structuredClone(said));
    }
  };
  return { all, sent, deliver };
}

const messageOf = (call: Promise<unknown>) => call.then(() => "done", (error: Error) => error.message);

Deno.test("GroupControl takes what another rank sends after a call that is not done here when it is", async () => {
  const { all, deliver } = makeRanks(3);
  const barriers = all.map((rank) => messageOf(rank.meet(recordOf("barrier", rank.rank))));
  deliver(0);
  deliver(1); // rank 2 has not heard yet that all are here
  await Promise.all(barriers.slice(0, 2));
  const pair = recordOf("send", 1, { root: 1, bytes: 5 });
  const sending = messageOf(all[1]!.meet(pair, 2));
  all[2]!.take(1, { type: "pair", record: pair, completed: 1 });
  assertEquals(all[2]!.look(), undefined);
  deliver(2);
  assertEquals(await barriers[2], "done");
  const receiving = messageOf(all[2]!.meet({ ...pair, kind: "receive", rank: 2 }, 1));
  deliver();
  assertEquals(await Promise.all([sending, receiving]), ["done", "done"]);
});

Deno.test("GroupControl says why a rank has left once its process says so", async () => {
  const { all, deliver } = makeRanks(2);
  const waiting = messageOf(all[0]!.meet(recordOf("barrier", 0)));
  await all[1]!.close();
  deliver();
  all[0]!.ended(1, "the file is truncated");
  assertEquals(await waiting, "Rank 1 failed: the file is truncated");
});

Deno.test("GroupControl does not fail because of a process that ends after it has left", async () => {
  const { all, deliver } = makeRanks(2);
  await all[1]!.close();
  deliver();
  all[0]!.ended(1, "out of luck");
  assertEquals(all[0]!.look(), undefined);
  assertEquals(await messageOf(all[0]!.meet(recordOf("barrier", 0))), "Rank 1 failed: out of luck");
});

Deno.test("GroupControl fails when a process ends that has not left", () => {
  const { all, sent } = makeRanks(3);
  all[0]!.ended(1, "its process has ended");
  assertEquals(all[0]!.look()?.message, "Rank 1 failed: its process has ended");
  const received = { type: "failed", rank: 1, message: "Rank 1 failed: its process has ended", goOn: false };
  assertEquals(sent, [1, 2].map((to) => ({ from: 0, to, said: received as GroupMessage })));
});

Deno.test("GroupControl ends a move when another rank fails, and tells all ranks the first failure only", async () => {
  const { all, deliver } = makeRanks(2);
  const meeting = all.map((rank) => rank.meet(recordOf("broadcast", rank.rank, { bytes: 4 })));
  deliver();
  await Promise.all(meeting);
  const cancelled = Promise.withResolvers<void>();
  const moving = all[0]!.during(recordOf("broadcast", 0), cancelled.resolve, () => cancelled.promise);
  await all[1]!.failBy("mpi", "MPI_Isend: out of range");
  deliver();
  await moving;
  const failure = all[0]!.look() as GroupError;
  assertEquals([failure.rank, failure.message], [
    1,
    "Rank 1 failed: broadcast() of 4 bytes from rank 0: MPI_Isend: out of range",
  ]);
  assertEquals(all[1]!.look()!.cause instanceof DeviceError, true);
  await all[0]!.failBy("mpi", "MPI_Irecv: later");
  await assertRejects(() => all[0]!.meet(recordOf("barrier", 0)), Error, "MPI_Isend: out of range");
  let isCancelled = false;
  await all[0]!.during(recordOf("barrier", 0), () => isCancelled = true, () => Promise.resolve());
  assertEquals(isCancelled, true);
});

Deno.test("GroupControl says at the end of the process how it ends", async () => {
  const idle = makeRanks(2);
  idle.all[0]!.end(null);
  assertEquals(idle.sent.map(({ said }) => said), [{ type: "left", completed: 0 }]);

  const failed = makeRanks(2);
  failed.all[1]!.end("it ended with exit status 3");
  failed.all[1]!.end(null);
  assertEquals(failed.sent.map(({ said }) => said.type), ["failed"]);
  failed.deliver();
  assertEquals(failed.all[0]!.look()?.message, "Rank 1 failed: it ended with exit status 3");

  const moving = makeRanks(2);
  const end = Promise.withResolvers<void>();
  const move = moving.all[1]!.during(recordOf("send", 1, { root: 1, bytes: 7 }), () => {}, () => end.promise);
  moving.all[1]!.end(null);
  moving.deliver();
  assertEquals(
    moving.all[0]!.look()?.message,
    "Rank 1 is gone: it left the group before send() of 7 bytes",
  );
  end.resolve();
  await move;
});
