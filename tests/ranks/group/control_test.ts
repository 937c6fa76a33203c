import { assert, assertEquals, assertRejects } from "@std/assert";
import { GroupError } from "../../../src/base/errors.ts";
import { recordOf } from "../../../src/ranks/group/call_record.ts";
import type { GroupControl } from "../../../src/ranks/group/control.ts";
import { meetOverTcp } from "../../../src/ranks/group/tcp_meeting.ts";
import { freePort, runAtAddress } from "./ranks.ts";

/** Ranks that all live in this process. */
async function ranks(size: number, timeoutSeconds = 20): Promise<GroupControl[]> {
  const port = freePort();
  return await Promise.all(
    Array.from(
      { length: size },
      (_, rank) =>
        meetOverTcp(
          { rank, size, localRank: rank, address: "127.0.0.1", port, job: "test", secret: "" },
          timeoutSeconds,
        ),
    ),
  );
}

/** What each rank's promise came to. */
async function settled(promises: readonly Promise<unknown>[]): Promise<unknown[]> {
  const results = await Promise.allSettled(promises);
  return results.map((result) => result.status === "fulfilled" ? result.value : result.reason.message);
}

const close = (all: readonly GroupControl[]) => Promise.all(all.map((control) => control.close()));

for (const size of [1, 2, 5]) {
  Deno.test(`GroupControl compares calls and gathers values on ${size} ranks`, async () => {
    const all = await ranks(size);
    for (let turn = 0; turn < 3; turn++) {
      await Promise.all(all.map((rank) => rank.meet(recordOf("barrier", rank.rank))));
    }
    const gathered = await Promise.all(all.map((rank) => rank.allGather({ rank: rank.rank }, "")));
    for (const values of gathered) assertEquals(values, all.map(({ rank }) => ({ rank })));
    const lengths = all.map(({ rank }) => rank * 2);
    await Promise.all(
      all.map(({ rank }) =>
        all[rank]!.meet(
          recordOf("scatter", rank, { ownBytes: rank * 2 }),
          undefined,
          rank === 0 ? lengths : [],
        )
      ),
    );
    await close(all);
  });
}

Deno.test("GroupControl tells all ranks who calls something else", async () => {
  const all = await ranks(3);
  const messages = await settled(
    all.map(({ rank }) => all[rank]!.meet(recordOf("broadcast", rank, { bytes: rank === 1 ? 5 : 6 }))),
  );
  const expected =
    "The ranks do not make the same calls: Rank 1 calls broadcast() of 5 bytes from rank 0, rank 0 " +
    "calls broadcast() of 6 bytes from rank 0";
  assertEquals(messages, [expected, expected, expected]);
  assertEquals(all[0]!.look()?.rank, 1);
  await assertRejects(() => all[2]!.meet(recordOf("barrier", 2)), GroupError, expected);
  await close(all);
});

Deno.test("GroupControl compares what the root of a scatter has with what each rank expects", async () => {
  const all = await ranks(3);
  const messages = await settled(
    all.map(({ rank }) =>
      all[rank]!.meet(
        recordOf("scatter", rank, { root: 2, ownBytes: 4 }),
        undefined,
        rank === 2 ? [4, 3, 4] : [],
      )
    ),
  );
  const expected =
    "The ranks do not make the same calls: In a scatter() from rank 2 rank 1 expects 4 bytes, the root " +
    "has 3 for it";
  assertEquals(messages, [expected, expected, expected]);
  await close(all);
});

Deno.test("GroupControl makes further calls after a failure that agree() reports", async () => {
  const all = await ranks(3);
  const messages = await settled(
    all.map(({ rank }) =>
      all[rank]!.meet(recordOf("agree", rank, { failure: rank === 2 ? "no memory" : null }))
    ),
  );
  assertEquals(messages, Array(3).fill("Rank 2 failed: no memory"));
  await Promise.all(all.map((rank) => rank.meet(recordOf("barrier", rank.rank))));
  // The text of an error may be empty: it is a failure too.
  const empty = await settled(
    all.map(({ rank }) => all[rank]!.meet(recordOf("agree", rank, { failure: rank === 2 ? "" : null }))),
  );
  assertEquals(empty, Array(3).fill("Rank 2 failed: "));
  await Promise.all(all.map((rank) => rank.meet(recordOf("barrier", rank.rank))));
  await close(all);
});

Deno.test("GroupControl pairs two ranks while the third does nothing", async () => {
  const all = await ranks(3);
  const send = recordOf("send", 2, { root: 2, bytes: 10, tag: 1 });
  await Promise.all([all[2]!.meet(send, 1), all[1]!.meet({ ...send, kind: "receive", rank: 1 }, 2)]);
  const short = { ...send, kind: "receive", rank: 1, bytes: 9 } as const;
  const messages = await settled([all[1]!.meet(short, 2), all[2]!.meet(send, 1)]);
  assert(messages.every((message) => `${message}`.startsWith("The ranks do not make the same calls: ")));
  await close(all);
});

Deno.test("GroupControl tells a rank that waits in a call of all that another waits for it", async () => {
  const all = await ranks(3);
  const messages = await settled([
    all[0]!.meet(recordOf("barrier", 0)),
    all[1]!.meet(recordOf("barrier", 1)),
    all[2]!.meet(recordOf("send", 2, { root: 2, bytes: 1 }), 1),
  ]);
  const expected =
    "The ranks do not make the same calls: Rank 2 calls send() of 1 bytes, rank 1 calls barrier()";
  assertEquals(messages, [expected, expected, expected]);
  await close(all);
});

Deno.test("GroupControl names the ranks that do not come", async () => {
  const all = await ranks(4, 0.2);
  const messages = await settled([0, 2].map((rank) => all[rank]!.meet(recordOf("barrier", rank))));
  const expected = "Ranks 1, 3 are missing: no answer for 0.2 seconds to barrier()";
  assertEquals(messages, [expected, expected]);
  await close(all);
});

Deno.test("GroupControl names rank 0 where that does not come", async () => {
  const all = await ranks(2, 0.1);
  const messages = await settled([all[1]!.meet(recordOf("barrier", 1))]);
  assertEquals(messages, ["Rank 0 is missing: no answer for 0.1 seconds to barrier()"]);
  await close(all);
});

Deno.test("GroupControl tells of a rank that leaves or fails", async () => {
  const left = await ranks(3);
  const waiting = settled([0, 1].map((rank) => left[rank]!.meet(recordOf("barrier", rank))));
  const leaving = left[2]!.close();
  assertEquals(await waiting, Array(2).fill("Rank 2 is gone: it left the group before barrier()"));
  await close(left.slice(0, 2));
  await leaving;

  const failed = await ranks(3);
  const received = settled([0, 1].map((rank) => failed[rank]!.meet(recordOf("barrier", rank))));
  await failed[2]!.fail(new GroupError("Rank 2 failed: no memory", 2, "no memory"));
  assertEquals(await received, Array(2).fill("Rank 2 failed: no memory"));
  assertEquals(failed[1]!.look()?.reason, "no memory");
  await close(failed);
});

Deno.test("GroupControl lets bytes move on when a rank leaves that has done its part", async () => {
  const all = await ranks(3);
  await Promise.all(all.map((rank) => rank.meet(recordOf("broadcast", rank.rank, { bytes: 6 }))));
  const leaving = all[2]!.close();
  const pair = recordOf("send", 0, { root: 0, bytes: 1 });
  await Promise.all([all[0]!.meet(pair, 1), all[1]!.meet({ ...pair, kind: "receive", rank: 1 }, 0)]);
  await new Promise((resolve) => setTimeout(resolve, 100)); // for what rank 2 said to arrive
  assertEquals(all.map((rank) => rank.look()), [undefined, undefined, undefined]);
  const messages = await settled([0, 1].map((rank) => all[rank]!.meet(recordOf("barrier", rank))));
  assertEquals(messages, Array(2).fill("Rank 2 is gone: it left the group before barrier()"));
  assertEquals([0, 1].map((rank) => all[rank]!.look()?.rank), [2, 2]);
  await close(all.slice(0, 2));
  await leaving;
});

Deno.test("meetOverTcp() keeps strangers out and names the ranks that are missing", async () => {
  const place = { size: 3, localRank: 0, address: "127.0.0.1", port: freePort(), job: "a", secret: "" };
  const meeting = [
    meetOverTcp({ ...place, rank: 0 }, 1),
    meetOverTcp({ ...place, rank: 1 }, 1),
    meetOverTcp({ ...place, rank: 2, job: "b" }, 1),
    meetOverTcp({ ...place, rank: 2, size: 4 }, 1),
  ];
  const stranger = (async () => {
    for (;;) {
      try {
        using connection = await Deno.connect({ hostname: "127.0.0.1", port: place.port });
        await connection.write(new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"));
        return await connection.read(new Uint8Array(16)).catch(() => null);
      } catch (error) {
        if (!(error instanceof Deno.errors.ConnectionRefused)) throw error;
      }
    }
  })();
  const [first, second, ...others] = await Promise.allSettled(meeting);
  assertEquals(
    (first as PromiseRejectedResult).reason.message,
    `Cannot form a group: rank 2 did not come to ` +
      `127.0.0.1:${place.port} within 1 seconds`,
  );
  assertEquals(others.map((other) => (other as PromiseRejectedResult).reason.message), [
    'Cannot join a group: rank 0 belongs to job "a" of 3 ranks (protocol 3), this rank to job "b" of 3 ranks (protocol 3)',
    'Cannot join a group: rank 0 belongs to job "a" of 3 ranks (protocol 3), this rank to job "a" of 4 ranks (protocol 3)',
  ]);
  assertEquals(second!.status, "fulfilled");
  await (second as PromiseFulfilledResult<GroupControl>).value.close();
  await stranger;
});

/** The place of rank 1 in a group of two on this machine. */
function secondOfTwo(port: number): Parameters<typeof meetOverTcp>[0] {
  return { rank: 1, size: 2, localRank: 1, address: "127.0.0.1", port, job: "", secret: "" };
}

Deno.test("meetOverTcp() names rank 0 if no process listens", async () => {
  const place = secondOfTwo(freePort());
  const failure = await assertRejects(
    () => meetOverTcp(place, 0.2),
    GroupError,
    "rank 0 did not come to 127.0.0.1",
  );
  assertEquals(failure.rank, 0);
});

/** Connects as soon as somebody listens. */
async function connectTo(port: number): Promise<Deno.TcpConn> {
  for (;;) {
    try {
      return await Deno.connect({ hostname: "127.0.0.1", port });
    } catch (error) {
      if (!(error instanceof Deno.errors.ConnectionRefused)) throw error;
    }
  }
}

Deno.test("meetOverTcp() admits ranks while strangers are silent", async () => {
  const place = { size: 2, localRank: 0, address: "127.0.0.1", port: freePort(), job: "", secret: "" };
  const first = meetOverTcp({ ...place, rank: 0 }, 3); // less than one stranger may be silent
  using _one = await connectTo(place.port);
  using _other = await connectTo(place.port);
  await close(await Promise.all([first, meetOverTcp({ ...place, rank: 1 }, 3)]));
});

Deno.test("meetOverTcp() closes the oldest silent connections if there are too many", async () => {
  const place = { size: 2, localRank: 0, address: "127.0.0.1", port: freePort(), job: "", secret: "" };
  const first = meetOverTcp({ ...place, rank: 0 }, 20);
  const strangers = [await connectTo(place.port)];
  while (strangers.length < 70) strangers.push(await connectTo(place.port));
  const ended = await strangers[0]!.read(new Uint8Array(1)).catch(() => null);
  assertEquals(ended, null); // while rank 0 still waits for rank 1
  await close(await Promise.all([first, meetOverTcp({ ...place, rank: 1 }, 20)]));
  for (const stranger of strangers) stranger.close();
});

Deno.test("meetOverTcp() refuses a first message of more than 16 KiB by its length, before it arrives", async () => {
  const place = { size: 2, localRank: 0, address: "127.0.0.1", port: freePort(), job: "a", secret: "right" };
  const first = meetOverTcp({ ...place, rank: 0 }, 20);
  using stranger = await connectTo(place.port);
  await stranger.write(Uint8Array.of(0, 0, 0x40, 1)); // 16,385 bytes
  const answer = new Uint8Array(1024);
  const length = await stranger.read(answer);
  const text = new TextDecoder().decode(answer.subarray(4, length ?? 0));
  assertEquals(text.slice(0, 40), '{"refusal":"rank 0 has another secret: g');
  await close(await Promise.all([first, meetOverTcp({ ...place, rank: 1 }, 20)]));
});

Deno.test("meetOverTcp() names rank 0 if the process that listens does not answer", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  const place = secondOfTwo(port);
  const failure = await assertRejects(
    () => meetOverTcp(place, 0.2),
    GroupError,
    `Cannot join a group: rank 0 did not come to 127.0.0.1:${port} within 0.2 seconds`,
  );
  assertEquals(failure.rank, 0);
});

Deno.test("meetOverTcp() keeps the last error of a connection as the cause", async () => {
  const place = secondOfTwo(freePort());
  const failure = await assertRejects(() => meetOverTcp(place, 0.2), GroupError);
  assert(failure.cause instanceof Deno.errors.ConnectionRefused);
});

Deno.test("a group over TCP does not keep its processes from ending, and the last messages arrive", async () => {
  const { ranks, stderr, code } = await runAtAddress(2, "tcp_ending_program.ts", []);
  assertEquals([ranks, code], [[{ rank: 0, start: "Rank 1 failed: x", length: 8_000_015 }], 0], stderr);
});

Deno.test("meetOverTcp() rejects connections without the secret, and does not reveal the job's name", async () => {
  const place = { size: 2, localRank: 0, address: "127.0.0.1", port: freePort(), job: "a", secret: "right" };
  const first = meetOverTcp({ ...place, rank: 0 }, 10);
  for (const secret of ["", "wrong", "right "]) {
    await assertRejects(
      () => meetOverTcp({ ...place, rank: 1, secret, job: "b" }, 10),
      GroupError,
      "Cannot join a group: rank 0 has another secret: give all ranks the same one, by the option secret or " +
        "FASTSAFETENSORS_GROUP_SECRET",
    );
  }
  await close(await Promise.all([first, meetOverTcp({ ...place, rank: 1 }, 10)]));
});

Deno.test("meetOverTcp() gives one number to one rank, also where two say it at once", async () => {
  const place = { size: 3, localRank: 0, address: "127.0.0.1", port: freePort(), job: "", secret: "" };
  const first = meetOverTcp({ ...place, rank: 0 }, 10);
  const same = await Promise.allSettled([1, 2].map(() => meetOverTcp({ ...place, rank: 1 }, 10)));
  assertEquals(same.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
  const all = await Promise.all([first, meetOverTcp({ ...place, rank: 2 }, 10)]);
  await close([...all, ...same.flatMap((one) => one.status === "fulfilled" ? [one.value] : [])]);
});

// 192.0.2.1 is for documentation: no machine has it.
for (
  const [address, reason] of [
    ["192.0.2.1", "Cannot assign requested address (os error 99)"],
    ["0.0.0.0", "the address means all addresses of a machine"],
    ["0", "the address means all addresses of a machine"],
    ["::", "the address means all addresses of a machine"],
    ["::ffff:0.0.0.0", "the address means all addresses of a machine"],
  ]
) {
  Deno.test(`meetOverTcp() listens at no other address than rank 0's: ${address}`, async () => {
    const place = {
      rank: 0,
      size: 2,
      localRank: 0,
      address: address!,
      port: freePort(),
      job: "",
      secret: "",
    };
    await assertRejects(
      () => meetOverTcp(place, 1),
      Deno.errors.AddrNotAvailable,
      `Cannot meet the other ranks at ${address}:${place.port}: ${reason}; give all ranks an address of ` +
        "rank 0's machine and a free port there, by the options address and port or MASTER_ADDR and MASTER_PORT",
    );
    using _free = Deno.listen({ hostname: "127.0.0.1", port: place.port });
  });
}
