import { assertEquals, assertRejects } from "@std/assert";
import { DeviceError, GroupError, UseAfterCloseError } from "../../../src/base/errors.ts";
import { SingleGroup } from "../../../src/ranks/group/process_group.ts";

Deno.test("SingleGroup makes every call that a rank alone can make", async () => {
  await using group = new SingleGroup();
  assertEquals([group.kind, group.rank, group.size], ["single", 0, 1]);
  const block = Uint8Array.of(1, 2, 3);
  await group.broadcast(block, 0);
  await group.broadcastAll([{ block, root: 0 }, { block: new Uint8Array(), root: 0, label: "nothing" }]);
  assertEquals([...block], [1, 2, 3]);
  const receive = new Uint8Array(3);
  await group.scatter({ block, lengths: [3] }, receive, 0);
  assertEquals([...receive], [1, 2, 3]);
  await group.barrier();
  await group.agree({ ok: true });
  assertEquals(await group.allGather({ a: [1, null], b: "é" }), [{ a: [1, null], b: "é" }]);
});

Deno.test("SingleGroup refuses ranks, lengths and blocks that do not exist", async () => {
  await using group = new SingleGroup();
  const block = new Uint8Array(4);
  await assertRejects(
    () => group.broadcast(block, 1),
    RangeError,
    "The root must be a rank from 0 to 0, got 1",
  );
  await assertRejects(() => group.broadcast("text" as unknown as Uint8Array<ArrayBuffer>, 0), TypeError);
  await assertRejects(() => group.send(block, 0), RangeError, "must be another rank");
  await assertRejects(() => group.receive(block, 1), RangeError);
  await assertRejects(() => group.scatter(null, block, 0), TypeError);
  await assertRejects(
    () => group.scatter({ block, lengths: [3] }, block, 0),
    RangeError,
    "cannot hand out 3",
  );
  await assertRejects(
    () => group.scatter({ block, lengths: [2, 2] }, block, 0),
    RangeError,
    "needs 1 lengths",
  );
  await assertRejects(() => group.scatter({ block, lengths: [4] }, new Uint8Array(3), 0), RangeError);
  await assertRejects(() => group.allGather(undefined as unknown as null), TypeError);
  const memory = { devicePointer: 4096n, byteLength: 4, device: 0 };
  await group.scatter({ block: memory, lengths: [4] }, memory, 0);
  await assertRejects(
    () => group.scatter({ block: memory, lengths: [4] }, { ...memory, devicePointer: 8192n }, 0),
    DeviceError,
  );
  await assertRejects(() => group.broadcastAll([{ block, root: 0 }, { block, root: 1 }]), RangeError);
  await assertRejects(
    () => group.broadcastAll([{ block, root: 0 }, { block: memory, root: 0 }]),
    RangeError,
    "The blocks of one broadcast must all be on the host, or all on one device",
  );
  await assertRejects(
    () => group.broadcast({ ...memory, devicePointer: 0n }, 0),
    RangeError,
    "no device memory",
  );
});

Deno.test("SingleGroup reports its own failure, and ends with close() and abort()", async () => {
  const group = new SingleGroup();
  const failure = await assertRejects(() => group.agree({ ok: false, message: "no memory" }), GroupError);
  assertEquals([failure.rank, failure.reason], [0, "no memory"]);
  await group.barrier();
  await group.abort("enough");
  await assertRejects(() => group.barrier(), GroupError, "enough");
  const closed = new SingleGroup();
  await closed.close();
  await closed.close();
  await assertRejects(() => closed.barrier(), UseAfterCloseError);
});

Deno.test("a rejected call of SingleGroup that is not awaited does not end the process", async () => {
  const group = new SingleGroup();
  await group.close();
  void group.barrier(); // an unhandled rejection would fail this test
  void group.allGather(1);
  await new Promise((resolve) => setTimeout(resolve, 0));
});
