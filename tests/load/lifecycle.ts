/**
 * The course and the end of a load: progress, signals, closing, and changes to tensors meanwhile.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { type OpenOptions, type Progress, UseAfterCloseError } from "../../mod.ts";
import { assertTensor, type TensorSpec, writeFile, type Written } from "../support/models.ts";
import { openDescriptors } from "../support/process.ts";
import type { DefineTest, EngineName } from "./context.ts";
import { fastsafeOpen, ParallelLoader } from "./api_in_use.ts";

/** A slow file: many small blocks, read one after another. */
const SLOWLY: OpenOptions<"cpu"> = { blockBytes: 4096, maxThreads: 1 };
const SPECS: TensorSpec[] = [
  { name: "first", dtype: "U8", shape: [100] },
  { name: "large", dtype: "F32", shape: [1024, 2048] },
  { name: "last", dtype: "I16", shape: [10] },
];

async function writeSlow(folder: string): Promise<[path: string, tensors: Written[]]> {
  const path = `${folder}/slow.safetensors`;
  return [path, await writeFile(path, SPECS)];
}

/** Expects that every tensor resolves to the written one, or rejects with this error. */
async function assertLandedOr(
  getTensor: (name: string) => Promise<Parameters<typeof assertTensor>[0]>,
  tensors: readonly Written[],
  isExpected: (error: unknown) => boolean,
): Promise<void> {
  await Promise.all(tensors.map(async (tensor) => {
    let actual;
    try {
      actual = await getTensor(tensor.name);
    } catch (error) {
      if (isExpected(error)) return;
      throw error;
    }
    assertTensor(actual, tensor);
  }));
}

export function lifecycleTests(test: DefineTest, engine: EngineName): void {
  test("onProgress never decreases and ends at the total", async (folder) => {
    const [path] = await writeSlow(folder);
    const total = 100 + 1024 * 2048 * 4 + 20;
    for (const names of [undefined, ["first", "last"], []]) {
      const told: Progress[] = [];
      const options = { ...SLOWLY, onProgress: (progress: Progress) => void told.push(progress) };
      await using model = await fastsafeOpen(path, names ? { ...options, names } : options);
      await model.whenLoaded();
      const bytes = names ? names.length && 120 : total;
      assert(told.length > 0);
      for (const [index, progress] of told.entries()) {
        assertEquals([progress.totalBytes, progress.totalTensors], [bytes, names?.length ?? 3]);
        const before = told[index - 1];
        if (!before) continue;
        assert(progress.bytes >= before.bytes && progress.tensors >= before.tensors);
        assert(progress.seconds >= before.seconds);
      }
      const { bytes: landed, tensors, seconds } = told.at(-1)!;
      assertEquals([landed, tensors], [bytes, names?.length ?? 3]);
      assert(seconds > 0 && seconds < 60);
    }
  });

  test("onProgress is called for each load of a lazy model", async (folder) => {
    const [path] = await writeSlow(folder);
    const told: number[] = [];
    await using model = await fastsafeOpen(path, {
      lazy: true,
      onProgress: ({ bytes, totalBytes }) => void told.push(bytes / totalBytes),
    });
    assertEquals(told, []);
    const ends = () => told.filter((part) => part === 1).length;
    for (const [load, name] of ["first", "large"].entries()) {
      await model.getTensor(name);
      // Overlapping loads have one common end.
      for (let turn = 0; turn < 1000 && ends() <= load; turn++) await settle();
      assertEquals(ends(), load + 1);
    }
  });

  test("an onProgress that throws fails only the load", async (folder) => {
    const [path, tensors] = await writeSlow(folder);
    const thrown = new Error("not today");
    const onProgress = () => {
      throw thrown;
    };
    await using model = await fastsafeOpen(path, { ...SLOWLY, onProgress });
    assertEquals(await assertRejects(() => model.whenLoaded()), thrown);
    await assertLandedOr((name) => model.getTensor(name), tensors, (error) => error === thrown);
    await using again = await fastsafeOpen(path);
    for (const tensor of tensors) assertTensor(await again.getTensor(tensor.name), tensor);
  });

  test("fastsafeOpen() does not open files with an aborted signal", async (folder) => {
    const [path] = await writeSlow(folder);
    const reason = new Error("too late");
    for (const lazy of [false, true]) {
      const error = await assertRejects(() =>
        fastsafeOpen(path, { lazy, signal: AbortSignal.abort(reason) })
      );
      assertEquals(error, reason);
    }
    assertEquals(openDescriptors(folder), 0);
  });

  test("fastsafeOpen() closes its files if the signal is aborted meanwhile", async (folder) => {
    const paths: string[] = [];
    for (let index = 0; index < 50; index++) {
      paths.push(`${folder}/${index}.safetensors`);
      await writeFile(paths.at(-1)!, [{ name: `t${index}`, dtype: "U8", shape: [10] }]);
    }
    for (const turns of [0, 1, 2, 5]) {
      const controller = new AbortController();
      const opening = fastsafeOpen(paths, { signal: controller.signal, lazy: true });
      for (let turn = 0; turn < turns; turn++) await settle();
      controller.abort();
      try {
        await (await opening).close();
      } catch (error) {
        assertEquals((error as Error).name, "AbortError");
      }
      assertEquals(openDescriptors(folder), 0);
    }
  });

  test("a signal ends a load: incomplete tensors reject with its reason", async (folder) => {
    const [path, tensors] = await writeSlow(folder);
    for (const turns of [0, 1, 3]) {
      const controller = new AbortController();
      const reason = new Error("changed my mind");
      await using model = await fastsafeOpen(path, { ...SLOWLY, signal: controller.signal });
      for (let turn = 0; turn < turns; turn++) await settle();
      controller.abort(reason);
      await assertLandedOr((name) => model.getTensor(name), tensors, (error) => error === reason);
      await assertLandedOr((name) => model.getTensor(name), tensors, (error) => error === reason);
      await model.whenLoaded().catch((error) => assertEquals(error, reason));
    }
  });

  test("a signal that times out ends the iteration", async (folder) => {
    const [path, tensors] = await writeSlow(folder);
    try { // the load can end before the timer, and the timer before the last of the tensors that have landed
      await using model = await fastsafeOpen(path, { ...SLOWLY, signal: AbortSignal.timeout(1) });
      for await (const [name, tensor] of model) {
        assertTensor(tensor, tensors.find((written) => written.name === name)!);
      }
    } catch (error) {
      assertEquals((error as Error).name, "TimeoutError");
    }
  });

  test("a signal that is aborted after the load has no effect", async (folder) => {
    const [path, tensors] = await writeSlow(folder);
    const controller = new AbortController();
    await using model = await fastsafeOpen(path, { signal: controller.signal });
    await model.whenLoaded();
    controller.abort();
    for (const tensor of tensors) assertTensor(await model.getTensor(tensor.name), tensor);
    assertEquals((await Array.fromAsync(model)).length, 3);
  });

  test("a signal ends the loads of a lazy model", async (folder) => {
    const [path, tensors] = await writeSlow(folder);
    const controller = new AbortController();
    const reason = new Error("enough");
    await using model = await fastsafeOpen(path, { ...SLOWLY, lazy: true, signal: controller.signal });
    assertTensor(await model.getTensor("first"), tensors[0]!);
    const large = model.getTensor("large");
    controller.abort(reason);
    assertEquals(await assertRejects(() => large), reason);
    assertEquals(await assertRejects(() => model.getTensor("first")), reason);
    assertEquals(await assertRejects(() => model.getSlice("large", 0)), reason);
  });

  test("breaking out of the iteration does not change the model", async (folder) => {
    const [path, tensors] = await writeSlow(folder);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { ...SLOWLY, lazy });
      for await (const [name, tensor] of model) {
        assertEquals(name, "first");
        assertTensor(tensor, tensors[0]!);
        break;
      }
      assertTensor(await model.getTensor("last"), tensors[2]!);
    }
    const model = await fastsafeOpen(path, SLOWLY);
    for await (const _ of model) break;
    await model.close();
    assertEquals(openDescriptors(folder), 0);
  });

  test("close() ends a load in flight, and may be called again", async (folder) => {
    const [path, tensors] = await writeSlow(folder);
    for (const lazy of [false, true]) {
      const model = await fastsafeOpen(path, { ...SLOWLY, lazy });
      const wanted = assertLandedOr(
        (name) => model.getTensor(name),
        tensors,
        (error) => error instanceof UseAfterCloseError,
      );
      const closing = model.close();
      await Promise.all([closing, model.close()]);
      assertEquals(openDescriptors(folder), 0);
      await wanted;
      await model.close();
      await model[Symbol.asyncDispose]();
    }
  });

  test("close() ends a running iteration with an error", async (folder) => {
    const [path] = await writeSlow(folder);
    for (const lazy of [false, true]) {
      const model = await fastsafeOpen(path, { ...SLOWLY, lazy });
      const iteration = model[Symbol.asyncIterator]();
      await iteration.next();
      await model.close();
      const rest = async () => {
        while (!(await iteration.next()).done);
      };
      // The engine may have finished before.
      await rest().catch((error) => assert(error instanceof UseAfterCloseError, String(error)));
    }
  });

  test("a closed model returns no tensors", async (folder) => {
    const [path] = await writeSlow(folder);
    for (const lazy of [false, true]) {
      const model = await fastsafeOpen(path, { lazy });
      await model.close();
      const acts: (() => Promise<unknown>)[] = [
        () => model.getTensor("first"),
        () => model.getSlice("first", 0),
        () => model.getSharded("first", 0),
        () => model.whenLoaded(),
        () => Array.fromAsync(model),
      ];
      for (const act of acts) await assertRejects(act, UseAfterCloseError, "closed");
      assertEquals(model.keys(), ["first", "large", "last"]);
      assertEquals(model.info("last").shape, [10]);
      assertEquals(model.stats().files, 1);
    }
  });

  test("tensors stay valid after the model is closed", async (folder) => {
    const [path, tensors] = await writeSlow(folder);
    const kept = [];
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { lazy });
      for (const { name } of tensors) kept.push(await model.getTensor(name));
    }
    await Deno.remove(path);
    for (const [index, tensor] of kept.entries()) assertTensor(tensor, tensors[index % 3]!);
  });

  if (engine !== "cuda" && engine !== "webgpu") transferTest(test); // device memory cannot be transferred

  test("tensors can be cloned and sent during a load", async (folder) => {
    const [path, tensors] = await writeSlow(folder);
    await using model = await fastsafeOpen(path, SLOWLY);
    const first = await model.getTensor("first");
    assertEquals(structuredClone(first.bytes.slice()), tensors[0]!.bytes);
    assertEquals(structuredClone(first.data) as Uint8Array, tensors[0]!.bytes);
    assertTensor(await model.getTensor("large"), tensors[1]!);
    assertThrows(() => structuredClone(first.bytes, { transfer: [first.bytes as unknown as Transferable] }));
  });

  test("stats() reports the finished load", async (folder) => {
    const [path, tensors] = await writeSlow(folder);
    const bytes = tensors.reduce((sum, tensor) => sum + tensor.bytes.byteLength, 0);
    await using model = await fastsafeOpen([path], { maxThreads: 2, blockBytes: 65_536 });
    await model.whenLoaded();
    const stats = model.stats();
    assertEquals(
      { ...stats, seconds: 0, gigabytesPerSecond: 0, notes: [], path: null },
      {
        files: 1,
        tensors: 3,
        bytes,
        seconds: 0,
        gigabytesPerSecond: 0,
        device: engine === "cuda" ? "cuda:0" : engine === "webgpu" ? "webgpu" : "cpu",
        path: null,
        threads: 2,
        blockBytes: 65_536,
        notes: [],
      },
    );
    assert(stats.seconds > 0 && stats.seconds < 60);
    assertEquals(stats.gigabytesPerSecond, bytes / stats.seconds / 1e9);
    if (engine === "portable") {
      assertEquals(stats.path, "portable");
      assert(stats.notes[0]!.includes("it was switched off"));
    } else if (engine === "3fs") {
      assertEquals(stats.path, "3fs");
    } else {
      assert(stats.path === "buffered" || stats.path === "direct");
    }
    await settle();
    assertEquals(model.stats().seconds, stats.seconds);
  });

  test("stats() counts the completed bytes during a load and after an abort", async (folder) => {
    const [path, tensors] = await writeSlow(folder);
    const total = tensors.reduce((sum, tensor) => sum + tensor.bytes.byteLength, 0);
    await using model = await fastsafeOpen(path, SLOWLY);
    await model.getTensor("first");
    await settle();
    const { bytes, seconds } = model.stats();
    assert(bytes > 0 && bytes <= total);
    await model.close();
    const ended = model.stats();
    assert(ended.bytes >= bytes && ended.bytes <= total && ended.seconds >= seconds);
    await settle();
    assertEquals(model.stats().seconds, ended.seconds);
  });

  test("stats() reports path and lanes from the first tensor on", async (folder) => {
    const [path] = await writeSlow(folder);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { ...SLOWLY, lazy });
      if (lazy) assertEquals([model.stats().path, model.stats().threads], [null, 0]);
      await model.getTensor("first");
      const { path: way, threads, tensors, bytes } = model.stats();
      const ways = engine === "portable" ? ["portable"] : engine === "3fs" ? ["3fs"] : ["buffered", "direct"];
      assert(ways.includes(String(way)), String(way));
      assertEquals(threads, 1);
      assert(tensors >= 1 && bytes >= 100);
    }
  });

  test("progress of batches covers all of them, and never decreases", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(
      path,
      Array.from({ length: 40 }, (_, index): TensorSpec => {
        return { name: `${index}`, dtype: "U8", shape: [100_000] };
      }),
    );
    const check = (seen: readonly Progress[], bytes: number, tensors: number) => {
      assertEquals([seen.at(-1)!.bytes, seen.at(-1)!.tensors], [bytes, tensors]);
      for (const [index, progress] of seen.entries()) {
        assertEquals([progress.totalBytes, progress.totalTensors], [bytes, tensors]);
        const before = seen[index - 1];
        assert(!before || progress.bytes >= before.bytes && progress.tensors >= before.tensors);
      }
    };
    for (const queueSize of [-1, 0, 2]) {
      const seen: Progress[] = [];
      const onProgress = (progress: Progress) => void seen.push(progress);
      const loader = new ParallelLoader(null, path, { maxBytesInFlight: 1_000_000, queueSize, onProgress });
      for await (const _ of loader.iterateWeights());
      check(seen, 4_000_000, 40);
    }
    const seen: Progress[] = [];
    await using model = await fastsafeOpen(path, { lazy: true, onProgress: (each) => void seen.push(each) });
    const landed = async (tensors: number) => { // the end of a load is reported after its tensors have been returned
      for (let turn = 0; turn < 1000 && seen.at(-1)?.tensors !== tensors; turn++) await settle();
    };
    await model.getTensor("0");
    await landed(1);
    check(seen.splice(0), 100_000, 1);
    await model.getTensor("1");
    await landed(2);
    check(seen, 200_000, 2);
  });

  test("stats() of a lazy model adds up", async (folder) => {
    const [path] = await writeSlow(folder);
    await using model = await fastsafeOpen(path, { lazy: true });
    assertEquals([model.stats().tensors, model.stats().bytes, model.stats().path], [0, 0, null]);
    await model.getTensor("first");
    await model.getSlice("large", [0, 2], [0, 3]);
    await settle();
    assertEquals([model.stats().tensors, model.stats().bytes], [2, 100 + 24]);
  });

  test("debugLog receives lines, or writes to stderr", async (folder) => {
    const [path] = await writeSlow(folder);
    const lines: string[] = [];
    {
      await using model = await fastsafeOpen(path, { debugLog: (line) => void lines.push(line) });
      await model.whenLoaded();
    }
    assert(lines.some((line) => line.includes("3 tensors, 8388728 bytes")), lines.join("\n"));
    const printed: unknown[] = [];
    const { error } = console;
    console.error = (...args) => void printed.push(...args);
    try {
      await using model = await fastsafeOpen(path, { debugLog: true });
      await model.whenLoaded();
      await using quiet = await fastsafeOpen(path, { debugLog: false });
      await quiet.whenLoaded();
    } finally {
      console.error = error;
    }
    assertEquals(printed.length, lines.length);
    assert(printed.every((line) => String(line).startsWith("fastsafetensors: ")));
  });
}

function transferTest(test: DefineTest): void {
  test("a tensor whose buffer is transferred during a load fails the rest with a clear error", async (folder) => {
    const path = `${folder}/slow.safetensors`;
    const sizes = [["first", 70_000], ["large", 8_000_000], ["last", 70_000]] as const; // too large to share an allocation with small tensors
    const specs = sizes.map(([name, size]): TensorSpec => ({ name, dtype: "U8", shape: [size] }));
    const tensors = await writeFile(path, specs);
    const ways: ((buffer: ArrayBuffer) => ArrayBuffer)[] = [
      (buffer) => buffer.transfer(),
      (buffer) => buffer.transfer(0),
      (buffer) => buffer.transfer(buffer.byteLength * 2),
      (buffer) => structuredClone(buffer, { transfer: [buffer] }),
    ];
    for (const way of ways) {
      await using model = await fastsafeOpen(path, SLOWLY);
      const first = await model.getTensor("first");
      const { byteOffset } = first.bytes;
      const moved = way(first.bytes.buffer);
      if (moved.byteLength > 0) {
        assertEquals(new Uint8Array(moved, byteOffset, 70_000), tensors[0]!.bytes);
      }
      for (const name of ["last", "large", "first"]) {
        await assertRejects(() => model.getTensor(name), TypeError, "transferred");
      }
      await assertRejects(() => Array.fromAsync(model), TypeError, "transferred");
      await model.whenLoaded().catch((error) => assert(error instanceof TypeError, String(error)));
      new Uint8Array(moved).fill(7);
    }
    await using model = await fastsafeOpen(path);
    for (const tensor of tensors) assertTensor(await model.getTensor(tensor.name), tensor);
  });
}

/** Yields to other tasks. */
function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 1));
}
