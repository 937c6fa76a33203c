import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { UseAfterCloseError } from "../../mod.ts";
import { LoadMemory } from "../../src/device/load_memory.ts";
import { RequestCounts } from "../../src/device/request_counts.ts";
import { type PlacedTensor, type SharedMemory, TensorHandle } from "../../src/device/tensor_handle.ts";
import { planLoad } from "../../src/load/plan.ts";

/** Memory that counts its holds; its creator has one. */
class CountedMemory implements SharedMemory {
  holds = 1;

  hold(): void {
    this.holds++;
  }

  drop(): void {
    this.holds--;
  }
}

const TENSOR: PlacedTensor = { name: "x", dtype: "U8", shape: [4], byteLength: 4, offset: 16 };
const DISPOSED = 'tensor "x": its handle was disposed';

Deno.test("a handle releases its hold once for several disposals, and then rejects uses", async () => {
  const memory = new CountedMemory();
  const handle = new TensorHandle(memory, TENSOR);
  handle.dispose();
  handle.dispose();
  assertEquals(memory.holds, 0);
  assertThrows(() => handle.check("use"), UseAfterCloseError, `Cannot use ${DISPOSED}`);
  assertThrows(() => handle.share("name", "y"), UseAfterCloseError, `Cannot name ${DISPOSED}`);
  await assertRejects(() => handle.use("copy", () => 1), UseAfterCloseError, `Cannot copy ${DISPOSED}`);
  assertEquals(memory.holds, 0);
});

Deno.test("a handle that is disposed while its memory is used leaves it to that use", async () => {
  const memory = new CountedMemory();
  const handle = new TensorHandle(memory, TENSOR);
  const { promise, resolve } = Promise.withResolvers<void>();
  const used = handle.use("copy", () => promise);
  handle.dispose();
  assertEquals(memory.holds, 1);
  resolve();
  await used;
  assertEquals(memory.holds, 0);
});

Deno.test("a failing operation on a handle's memory releases its hold", async () => {
  const memory = new CountedMemory();
  const handle = new TensorHandle(memory, TENSOR);
  await assertRejects(() => handle.use("copy", () => Promise.reject(new Error("no"))), Error, "no");
  assertEquals(memory.holds, 1);
});

Deno.test("a shared handle is the same tensor under another name, and holds the memory by itself", () => {
  const memory = new CountedMemory();
  const handle = new TensorHandle(memory, TENSOR);
  const other = new TensorHandle(...handle.share("name", "y"));
  assertEquals(other.tensor, { name: "y", dtype: "U8", shape: [4], byteLength: 4, offset: 16 });
  handle.dispose();
  assertEquals(memory.holds, 1);
  other.dispose();
  assertEquals(memory.holds, 0);
});

Deno.test("a load provides the memory of its tensors until it is released or they are retired", () => {
  const requests = [["a", 0], ["b", 8192]].map(([name, fileOffset]) => ({
    name: name as string,
    dtype: "U8" as const,
    target: "U8" as const,
    shape: [8],
    file: 0,
    fileOffset: fileOffset as number,
    run: 8,
    levels: [],
  }));
  const plan = planLoad(requests, { blockBytes: 4096, maxAllocationBytes: 8 });
  const memories = plan.allocations.map(() => new CountedMemory());
  assertEquals(memories.length, 2);
  const load = new LoadMemory(plan, memories, RequestCounts.of(plan));
  const [memory, tensor] = load.tensor(1, "b");
  assertEquals(tensor, { name: "b", dtype: "U8", shape: [8], byteLength: 8, offset: 0 });
  assertEquals([memory === memories[1], memory.holds], [true, 2]);
  load.retire([1]);
  load.retire([1]);
  assertEquals(memories.map(({ holds }) => holds), [1, 1]);
  assertThrows(() => load.tensor(1, "b"), UseAfterCloseError, 'Cannot get tensor "b": its load was closed');
  load.release();
  load.release();
  assertEquals(memories.map(({ holds }) => holds), [0, 1]);
  assertThrows(() => load.tensor(0, "a"), UseAfterCloseError, 'Cannot get tensor "a": its load was closed');
});
