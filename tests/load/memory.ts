/**
 * Memory: what is given back when something is closed, and what a tensor that is still in use holds.
 */
import { assert, assertEquals } from "@std/assert";
import type { HostTensor } from "../../mod.ts";
import { Watched } from "../support/garbage.ts";
import { assertTensor, type TensorSpec, writeFile } from "../support/models.ts";
import type { DefineTest, EngineName } from "./context.ts";
import { fastsafeOpen, ParallelLoader, SafeTensorsFileLoader } from "./doors_in_use.ts";

const SPECS: TensorSpec[] = [
  { name: "a", dtype: "U8", shape: [300_000] },
  { name: "b", dtype: "U8", shape: [300_000] },
];

/** The memory of a tensor, not kept alive: in a function of its own, so that no variable of the test holds the tensor. */
async function memoryOf(tensor: Promise<HostTensor>): Promise<Watched> {
  return new Watched((await tensor).bytes.buffer);
}

export function memoryTests(test: DefineTest, engine: EngineName): void {
  if (engine === "cuda" || engine === "webgpu") return; // their memory is not the garbage collector's

  test("a closed model holds no tensor memory", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    for (const lazy of [false, true]) {
      const model = await fastsafeOpen(path, { lazy });
      const memory = await memoryOf(model.getTensor("a"));
      await model.whenLoaded();
      if (!lazy) assertEquals(await memory.isCollected(), false);
      await model.close();
      assert(await memory.isCollected(), `lazy: ${lazy}`);
      assertEquals(model.keys(), ["a", "b"]);
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

  test("an iteration that has ended early holds no tensor memory", async (folder) => {
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

  test("a tensor in use keeps its memory when its model is closed", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [a] = await writeFile(path, SPECS);
    for (const lazy of [false, true]) {
      const model = await fastsafeOpen(path, { lazy });
      const tensor = await model.getTensor("a");
      const memory = new Watched(tensor.bytes.buffer);
      await model.close();
      assertEquals(await memory.isCollected(), false);
      assertTensor(tensor, a!);
    }
  });

  test("copy() gives a tensor memory of its own", async (folder) => {
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
}
