/**
 * Files with many tensors: opening and loading them does not block the event loop.
 */
import { assert, assertEquals } from "@std/assert";
import { assertTensor, type TensorSpec, writeFile } from "../support/models.ts";
import type { DefineTest, EngineName } from "./context.ts";
import { fastsafeOpen } from "./api_in_use.ts";
import { saveFile } from "../../mod.ts";

/** Counts the turns of the event loop until it is disposed. */
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

  /**
   * Throws if the event loop had hardly a turn since the last call; blocking work leaves one before and one after it.
   */
  assertMany(what: string): void {
    assert(this.count >= 4, `${this.count} turns: ${what}`);
    this.forget();
  }

  /** Resets the count. */
  forget(): void {
    this.count = 0;
  }

  /** Stops, and waits for the last turn that is counted. */
  async end(): Promise<void> {
    this[Symbol.dispose]();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }

  [Symbol.dispose]() {
    this.#running = false;
  }
}

export function turnTests(test: DefineTest, engine: EngineName): void {
  if (engine !== "native" && engine !== "portable") return;

  /** A file with many tensors. */
  async function writeMany(folder: string) {
    const path = `${folder}/model.safetensors`;
    const bytes = new Uint8Array([1, 2, 3, 4]);
    const specs = Array.from({ length: 60_000 }, (_, index): TensorSpec => {
      return { name: `model.layers.${index}.weight`, dtype: "F32", shape: [1], bytes };
    });
    return { path, tensors: await writeFile(path, specs) };
  }

  test("opening and loading a file with many tensors does not block the event loop", async (folder) => {
    const { path, tensors } = await writeMany(folder);
    using turns = new Turns();
    await using lazy = await fastsafeOpen(path, { lazy: true });
    turns.assertMany("opening");
    const all = await Promise.all(tensors.slice(0, 20_000).map(({ name }) => lazy.getTensor(name)));
    turns.assertMany("reading the requested tensors");
    for (const index of [0, 777, 19_999]) assertTensor(all[index]!, tensors[index]!);
    await using model = await fastsafeOpen(path);
    await model.whenLoaded();
    turns.assertMany("loading");
    assertEquals(model.stats().tensors, 60_000);
    assertTensor(await model.getTensor("model.layers.59999.weight"), tensors.at(-1)!);
    await turns.end();
  });

  test("iterating many tensors does not block the event loop", async (folder) => {
    const { path, tensors } = await writeMany(folder);
    await using model = await fastsafeOpen(path);
    await model.whenLoaded();
    using turns = new Turns();
    let given = 0;
    for await (const _ of model) given++;
    assertEquals(given, 60_000);
    turns.assertMany("iterating");
    const all = await Promise.all(tensors.map(({ name }) => model.getTensor(name)));
    assertTensor(all.at(-1)!, tensors.at(-1)!);
    turns.assertMany("returning tensors");
    await using lazy = await fastsafeOpen(path, { lazy: true });
    turns.forget();
    for await (const _ of lazy) given++;
    assertEquals(given, 120_000);
    turns.assertMany("iterating a lazy model");
    await turns.end();
  });

  test("rejecting many tensors in close() does not block the event loop", async (folder) => {
    const { path, tensors } = await writeMany(folder);
    const model = await fastsafeOpen(path, { lazy: true });
    const waiting = tensors.map(({ name }) => model.getTensor(name));
    using turns = new Turns();
    const ends = Promise.allSettled(waiting);
    await model.close();
    for (const { status } of await ends) assertEquals(status, "rejected");
    turns.assertMany("rejecting");
    await turns.end();
  });

  test("an index and names of one tensor, very many, are written and read in many turns", async (folder) => {
    const x = { dtype: "U8", shape: [1], data: new Uint8Array([7]) } as const;
    const names = Array.from({ length: 60_000 }, (_, index) => `t${index}`);
    const same = Object.fromEntries(names.map((name) => [name, x]));
    const others = Object.fromEntries(names.map((name) => [name, { ...x, data: x.data.slice() }]));
    using turns = new Turns();
    await saveFile(others, `${folder}/set.safetensors`, { maxShardBytes: 40_000 });
    turns.assertMany("saving a set");
    await using set = await fastsafeOpen(`${folder}/set.safetensors.index.json`, { lazy: true });
    turns.assertMany("opening a set by its index");
    assertEquals(set.keys().length, 60_000);
    await saveFile(same, `${folder}/same.safetensors`);
    turns.assertMany("saving one tensor of many names");
    await using model = await fastsafeOpen(`${folder}/same.safetensors`, { restoreAliases: true });
    turns.assertMany("opening one tensor of many names");
    assertEquals(model.keys().length, 60_000);
    assertEquals((await model.getTensor("t59999")).data, new Uint8Array([7]));
    await turns.end();
  });

  test("saving many tensors does not block the event loop", async (folder) => {
    const data = new Float32Array(1);
    const record = Object.fromEntries(
      Array.from(
        { length: 60_000 },
        (_, index) => [`t${index}`, { dtype: "F32", shape: [1], data } as const],
      ),
    );
    const map = new Map(
      Object.entries(record).map(([name, tensor]) => [name, { ...tensor, data: data.slice() }]),
    );
    for (const [what, given] of Object.entries({ record, map })) {
      using turns = new Turns();
      const { tensors } = await saveFile(given, `${folder}/${what}.safetensors`);
      assertEquals(tensors, what === "map" ? 60_000 : 1); // the tensors of the record share memory
      turns.assertMany(`saving a ${what}`);
      await turns.end();
    }
  });
}
