/**
 * Files of very many tensors: the event loop is free for others while they are opened and loaded.
 */
import { assert, assertEquals } from "@std/assert";
import { assertTensor, type TensorSpec, writeFile } from "../support/models.ts";
import type { DefineTest, EngineName } from "./context.ts";
import { fastsafeOpen } from "./doors_in_use.ts";

/** Counts turns of the event loop that others have had, until it is disposed. */
class Turns implements Disposable {
  count = 0;
  #running = true;

  constructor() {
    const next = () => {
      this.count++;
      if (this.#running) setTimeout(next, 0);
    };
    setTimeout(next, 0);
  }

  [Symbol.dispose]() {
    this.#running = false;
  }
}

export function turnTests(test: DefineTest, engine: EngineName): void {
  if (engine !== "native" && engine !== "portable") return;

  test("a file of very many tensors is opened and loaded in many turns of the event loop", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const bytes = new Uint8Array([1, 2, 3, 4]);
    const specs = Array.from({ length: 60_000 }, (_, index): TensorSpec => {
      return { name: `model.layers.${index}.weight`, dtype: "F32", shape: [1], bytes };
    });
    const tensors = await writeFile(path, specs);
    using turns = new Turns();
    await using lazy = await fastsafeOpen(path, { lazy: true });
    const opened = turns.count;
    assert(opened >= 10, `${opened} turns while it was opened`);
    const all = await Promise.all(specs.slice(0, 20_000).map(({ name }) => lazy.getTensor(name)));
    assert(turns.count - opened >= 10, `${turns.count - opened} turns while tensors were read`);
    for (const index of [0, 777, 19_999]) assertTensor(all[index]!, tensors[index]!);
    const before = turns.count;
    await using model = await fastsafeOpen(path);
    await model.whenLoaded();
    assert(turns.count - before >= 15, `${turns.count - before} turns while it was loaded`);
    assertEquals(model.stats().tensors, 60_000);
    assertTensor(await model.getTensor("model.layers.59999.weight"), tensors.at(-1)!);
    await new Promise((resolve) => setTimeout(resolve, 5)); // the last turn that was counted
  });
}
