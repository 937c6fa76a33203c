import { assertEquals } from "@std/assert";
import {
  decodeRecord,
  describeCall,
  describeDifference,
  encodeRecord,
  recordOf,
  SEVERAL_ROOTS,
} from "../../src/group/call_record.ts";

Deno.test("encodeRecord() lays a record out as native/fst_group.h says", () => {
  const record = recordOf("scatter", 3, { root: 2, tag: 5, sequence: 7, ownBytes: 2 ** 40 + 1, label: "é" });
  const view = new DataView(encodeRecord({ ...record, bytes: 9 }).buffer);
  assertEquals(view.byteLength, 512);
  assertEquals([view.getUint32(0, true), view.getInt32(4, true), view.getUint32(8, true)], [2, 2, 5]);
  assertEquals([view.getBigUint64(16, true), view.getBigUint64(24, true)], [7n, 9n]);
  assertEquals(view.getBigUint64(40, true), 2n ** 40n + 1n);
  assertEquals([view.getInt32(48, true), view.getUint32(52, true), view.getUint32(56, true)], [3, 0, 2]);
  assertEquals([view.getUint8(60), view.getUint8(61), view.getUint8(62)], [0xc3, 0xa9, 0]);
});

Deno.test("decodeRecord() gives back what encodeRecord() was given", () => {
  const plain = recordOf("broadcast", 1, {
    root: 4,
    tag: 2 ** 31 - 1,
    sequence: 12,
    bytes: 2 ** 45,
    label: "a\u{1f600}",
  });
  assertEquals(decodeRecord(encodeRecord(plain)), plain);
  const failed = recordOf("agree", 0, { failure: "" });
  assertEquals(decodeRecord(encodeRecord(failed)), failed);
});

Deno.test("encodeRecord() cuts a long text between characters, and compares all of it", () => {
  const label = "é".repeat(300);
  const decoded = decodeRecord(encodeRecord(recordOf("barrier", 0, { label })));
  assertEquals(decoded.label, "é".repeat(226));
  const [a, b] = [label + "a", label + "b"].map((text) =>
    encodeRecord(recordOf("barrier", 0, { label: text }))
  );
  assertEquals(a!.subarray(60), b!.subarray(60));
  assertEquals(a!.subarray(0, 40).toHex() === b!.subarray(0, 40).toHex(), false);
});

Deno.test("describeCall() says what a rank calls", () => {
  const described = [
    recordOf("broadcast", 0, { root: 1, bytes: 10, label: "norm" }),
    recordOf("broadcast", 0, {
      root: SEVERAL_ROOTS,
      bytes: 30,
      label: "norm: 10 bytes from rank 1; 20 bytes from rank 0",
    }),
    recordOf("scatter", 0, { root: 1, label: "rows" }),
    recordOf("send", 0, { bytes: 3, tag: 4 }),
    recordOf("receive", 0, { root: 2, bytes: 3 }),
    recordOf("barrier", 0),
    recordOf("split", 0),
    recordOf("split", 0, { label: "MpiGroup.create()" }),
  ].map(describeCall);
  assertEquals(described, [
    'broadcast() of 10 bytes from rank 1 ("norm")',
    'broadcastAll() of 30 bytes ("norm: 10 bytes from rank 1; 20 bytes from rank 0")',
    'scatter() from rank 1 ("rows")',
    "send() of 3 bytes with tag 4",
    "receive() of 3 bytes from rank 2",
    "barrier()",
    "split()",
    "MpiGroup.create()",
  ]);
});

Deno.test("describeDifference() says who calls what", () => {
  const one = recordOf("barrier", 0, { sequence: 4 });
  assertEquals(describeDifference(one, recordOf("split", 2)), "Rank 2 calls split(), rank 0 calls barrier()");
  assertEquals(
    describeDifference(one, recordOf("barrier", 2, { sequence: 5 })),
    "Rank 2 is at its call 6, rank 0 at its call 5: a barrier()",
  );
});
