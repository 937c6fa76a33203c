/**
 * Files with many tensors: opening and loading them does not block the event loop.
 */
import { assert, assertEquals } from "@std/assert";
import { assertTensor, type TensorSpec, writeFile } from "../support/models.ts";
import { VisitedElements } from "../support/visited.ts";
import type { DefineTest, EngineName } from "./context.ts";
import { fastsafeOpen, ParallelLoader } from "./api_in_use.ts";
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

/** A clock by which a quarter of a millisecond passes between two looks, which it counts. */
class Clock implements Disposable {
  #looks = 0;
  readonly #now = performance.now;

  constructor() {
    performance.now = () => ++this.#looks / 4;
  }

  /** Throws if there were fewer looks since the last call. */
  assertLooks(least: number, what: string): void {
    assert(this.#looks >= least, `${this.#looks} looks at the clock, at least ${least} expected: ${what}`);
    this.#looks = 0;
  }

  [Symbol.dispose]() {
    performance.now = this.#now;
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
    const names = Array.from({ length: 20_000 }, (_, index) => `t${index}`);
    const same = Object.fromEntries(names.map((name) => [name, x]));
    const others = Object.fromEntries(names.map((name) => [name, { ...x, data: x.data.slice() }]));
    using clock = new Clock(); // about 20 looks for each pass over the names
    await saveFile(others, `${folder}/set.safetensors`, { maxShardBytes: 13_000 });
    clock.assertLooks(660, "saving a set");
    await using set = await fastsafeOpen(`${folder}/set.safetensors.index.json`, { lazy: true });
    clock.assertLooks(100, "opening a set by its index");
    assertEquals(set.keys().length, 20_000);
    await saveFile(same, `${folder}/same.safetensors`);
    clock.assertLooks(178, "saving one tensor of many names");
    await using model = await fastsafeOpen(`${folder}/same.safetensors`, { restoreAliases: true });
    clock.assertLooks(165, "opening one tensor of many names");
    await saveFile({ x }, `${folder}/metadata.safetensors`, {
      metadata: new Map(names.map((name) => [name, ""])),
    });
    clock.assertLooks(122, "saving much metadata");
    assertEquals(model.keys().length, 20_000);
    assertEquals((await model.getTensor("t19999")).data, new Uint8Array([7]));
    const loader = new ParallelLoader(null, `${folder}/set.safetensors.index.json`);
    for await (const _ of loader.iterateWeights()) break;
    clock.assertLooks(340, "beginning to iterate a loader");
  });

  test("opening many names of one tensor takes work in proportion to the names", async (folder) => {
    const x = { dtype: "U8", shape: [1], data: new Uint8Array([7]) } as const;
    /** Opens so many, and returns how many elements of arrays are visited. */
    const open = async (count: number) => {
      const names = Array.from({ length: count }, (_, index) => `t${index}`);
      const path = `${folder}/${count}.safetensors`;
      await saveFile(Object.fromEntries(names.map((name) => [name, x])), path);
      using visited = new VisitedElements();
      await using model = await fastsafeOpen(path, { restoreAliases: true });
      await model.whenLoaded();
      assertEquals(model.keys().length, count);
      return visited.count;
    };
    const few = await open(500), many = await open(4000);
    assert(few > 500, `${few} visits`); // so it counts
    assert(many < 16 * few, `${many} visits for 4000 names, ${few} for 500`); // 64 times, if their square counted
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
