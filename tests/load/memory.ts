/**
 * Memory: the release after a close, and the memory that a used tensor retains.
 */
import { assert, assertEquals } from "@std/assert";
import { type HostTensor, OutOfMemoryError } from "../../mod.ts";
import { selectEngine } from "../../src/load/native/select.ts";
import { collectedHeap, Watched } from "../support/garbage.ts";
import { assertTensor, type TensorSpec, writeFile } from "../support/models.ts";
import type { DefineTest, EngineName } from "./context.ts";
import { fastsafeOpen, ParallelLoader, SafeTensorsFileLoader } from "./api_in_use.ts";

const SPECS: TensorSpec[] = [
  { name: "a", dtype: "U8", shape: [300_000] },
  { name: "b", dtype: "U8", shape: [300_000] },
];

/**
 * A weak reference to the memory of a tensor. A separate function, so that no variable of the test references the
 * tensor.
 */
async function memoryOf(tensor: Promise<HostTensor>): Promise<Watched> {
  return new Watched((await tensor).bytes.buffer);
}

export function memoryTests(test: DefineTest, engine: EngineName): void {
  if (engine === "cuda" || engine === "webgpu") return; // the garbage collector does not manage their memory

  test("a closed model holds no tensor memory", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    for (const lazy of [false, true]) {
      const model = await fastsafeOpen(path, { lazy });
      const memory = await memoryOf(model.getTensor("a"));
      await model.whenLoaded();
      if (!lazy) assertEquals(await memory.isCollected(5), false);
      await model.close();
      assert(await memory.isCollected(), `lazy: ${lazy}`);
      assertEquals(model.keys(), ["a", "b"]);
    }
  });

  test("a model of many tensors has no objects for those that were not asked for", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const count = 40_000;
    const bytes = new Uint8Array([1, 2, 3, 4]);
    await writeFile(
      path,
      Array.from({ length: count }, (_, index): TensorSpec => {
        return { name: `model.layers.${index}.weight`, dtype: "F32", shape: [1], bytes };
      }),
    );
    for (const lazy of [false, true]) {
      const before = collectedHeap();
      await using model = await fastsafeOpen(path, { lazy });
      await model.whenLoaded();
      const each = (collectedHeap() - before) / count;
      assert(each < 100, `${each} bytes of the heap for each tensor`); // an object and a name need more
      assertEquals((await model.getTensor("model.layers.39999.weight")).bytes, bytes);
    }
  });

  test("a closed FilesBuffer and its loader hold no tensor memory", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    const loader = new SafeTensorsFileLoader(null);
    await loader.addFilenames({ 0: path });
    const buffer = await loader.copyFilesToDevice();
    const memory = await memoryOf(buffer.getTensor("a"));
    await buffer.close();
    assert(await memory.isCollected());
    assertEquals(buffer.getKeys(), ["a", "b"]);
    await loader.close();
  });

  test("an iteration that ended early holds no tensor memory", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    const loader = new ParallelLoader(null, path);
    await using model = await fastsafeOpen(path, { lazy: true });
    for (const iteration of [loader.iterateWeights(), model[Symbol.asyncIterator]()]) {
      const memory = await memoryOf(iteration.next().then(({ value }) => value![1]));
      await iteration.return();
      assert(await memory.isCollected());
      assertEquals((await iteration.next()).done, true);
    }
  });

  test("lazy tensors that do not fit in memory together are read one by one", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const tensors = await writeFile(path, [...SPECS, { name: "large", dtype: "U8", shape: [500_000] }]);
    const current = await selectEngine();
    const availableMemory = current.availableMemory;
    current.availableMemory = () => 400_000; // enough for one of the first two
    try {
      await using model = await fastsafeOpen(path, { lazy: true });
      const all = await Promise.allSettled(["a", "b", "a", "large"].map((name) => model.getTensor(name)));
      for (const [index, name] of ["a", "b", "a"].entries()) {
        const result = all[index]!;
        assert(result.status === "fulfilled", name);
        assertTensor(result.value, tensors.find((tensor) => tensor.name === name)!);
      }
      const large = all[3]!;
      assert(large.status === "rejected" && large.reason instanceof OutOfMemoryError);
      assertEquals([large.reason.requested, large.reason.free], [500_000, 400_000]);
    } finally {
      current.availableMemory = availableMemory;
    }
  });

  test("a tensor in use keeps its memory when its model is closed", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [a] = await writeFile(path, SPECS);
    for (const lazy of [false, true]) {
      const model = await fastsafeOpen(path, { lazy });
      const tensor = await model.getTensor("a");
      const memory = new Watched(tensor.bytes.buffer);
      await model.close();
      assertEquals(await memory.isCollected(5), false); // one or two collections suffice for memory that can be collected
      assertTensor(tensor, a!);
    }
  });

  test("copy() returns a tensor with its own memory", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const specs: TensorSpec[] = [
      { name: "small", dtype: "F4", shape: [2, 3] },
      { name: "none", dtype: "F32", shape: [0, 2] },
      { name: "large", dtype: "BF16", shape: [1500, 1000] },
    ];
    const tensors = await writeFile(path, specs);
    await using model = await fastsafeOpen(path);
    for (const tensor of tensors) {
      const given = await model.getTensor(tensor.name);
      const copy = await given.copy();
      assertEquals(copy.constructor, given.constructor);
      assertTensor(copy, tensor);
      assertEquals([copy.bytes.buffer.byteLength, copy.bytes.byteOffset], [tensor.bytes.byteLength, 0]);
      given.bytes.fill(1);
      assertTensor(copy, tensor);
    }
  });

  test("a small tensor does not retain large memory, for every way to load it", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const specs = Array.from({ length: 12 }, (_, index): TensorSpec[] => [
      { name: `${index}.w`, dtype: "U8", shape: [2_000_000] },
      { name: `${index}.norm`, dtype: "F32", shape: [1024] },
    ]).flat();
    const tensors = await writeFile(path, specs);
    const norms = tensors.filter(({ name }) => name.endsWith("norm"));
    const check = (kept: ReadonlyMap<string, HostTensor>) => {
      for (const norm of norms) assertTensor(kept.get(norm.name)!, norm);
      const buffers = new Set(kept.values().map(({ bytes }) => bytes.buffer));
      assert(buffers.values().reduce((sum, { byteLength }) => sum + byteLength, 0) < 2 ** 20);
    };
    const take = async (pairs: AsyncIterable<readonly [string, HostTensor]>) => {
      const kept = new Map<string, HostTensor>();
      for await (const [name, tensor] of pairs) if (name.endsWith("norm")) kept.set(name, tensor);
      return kept;
    };
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { lazy });
      check(await take(model));
      const all = await Promise.all(model.keys().map((name) => model.getTensor(name)));
      check(new Map(all.filter(({ name }) => name.endsWith("norm")).map((tensor) => [tensor.name, tensor])));
    }
    check(await take(new ParallelLoader(null, path, { maxBytesInFlight: 8e6 }).iterateWeights()));
    await using loader = new SafeTensorsFileLoader(null);
    await loader.addFilenames({ 0: path });
    await using buffer = await loader.copyFilesToDevice();
    check(new Map([...await buffer.asDict()].filter(([name]) => name.endsWith("norm"))));
  });

  test("a tensor that is loaded on demand or in a batch retains at most 16 MiB of other tensors", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(
      path,
      Array.from({ length: 30 }, (_, index): TensorSpec => {
        return { name: `${index}`, dtype: "U8", shape: [index === 7 ? 20_000_000 : 1_500_000] };
      }),
    );
    await using model = await fastsafeOpen(path, { lazy: true });
    const tensors = await Promise.all(model.keys().map((name) => model.getTensor(name)));
    for await (const [, tensor] of model) tensors.push(tensor);
    for await (const [, tensor] of new ParallelLoader(null, path).iterateWeights()) tensors.push(tensor);
    assertEquals(tensors.length, 90);
    const spare = 2 * 2 ** 20 + 4096; // an allocation begins with a huge page, and a run where it lies in a page
    for (const { bytes } of tensors) {
      assert(bytes.buffer.byteLength <= Math.max(16 * 2 ** 20, bytes.byteLength) + spare);
    }
  });
}
