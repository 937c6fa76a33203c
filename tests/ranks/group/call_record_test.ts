import { assert, assertEquals, assertNotEquals } from "@std/assert";
import {
  describeCall,
  describeDifference,
  recordOf,
  SEVERAL_ROOTS,
} from "../../../src/ranks/group/call_record.ts";

Deno.test("recordOf() cuts a long label between characters, and tells two of the same beginning apart", () => {
  const label = "x" + "\u{1f600}".repeat(300);
  const [a, b] = ["a", "b"].map((end) => recordOf("barrier", 0, { label: label + end }));
  assertEquals(a!.label, b!.label);
  assert(a!.label.length <= 400 && a!.label.isWellFormed());
  assertNotEquals(a!.digest, b!.digest);
  assertEquals(recordOf("barrier", 0, { label: label + "a" }), a!);
  assertEquals(recordOf("barrier", 0, { label: "short" }).digest, "");
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
