/**
 * Promises that close() or a signal rejects before they are awaited: the process continues, and a later await throws
 * the error.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { autoOpen, type HostTensor, type SafeTensorsModel, saveFile, UseAfterCloseError } from "../../mod.ts";
import { convertPyTorch, openPyTorch } from "../../src/pytorch/mod.ts";
import { type TensorSpec, writeFile } from "../support/models.ts";
import type { DefineTest, EngineName } from "./context.ts";
import { fastsafeOpen, ParallelLoader, SafeTensorsFileLoader } from "./api_in_use.ts";

const SPECS: TensorSpec[] = [
  { name: "first", dtype: "U8", shape: [100] },
  { name: "large", dtype: "F32", shape: [1024, 1024] },
];

/** Runs an action, and returns the number of promises that the event loop reports as rejected without a handler. */
async function unhandled(action: () => Promise<unknown>): Promise<number> {
  let count = 0;
  const onRejection = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    count++;
  };
  globalThis.addEventListener("unhandledrejection", onRejection);
  try {
    await action();
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setTimeout(resolve, 1));
  } finally {
    globalThis.removeEventListener("unhandledrejection", onRejection);
  }
  return count;
}

export function unawaitedTests(test: DefineTest, engine: EngineName): void {
  if (engine === "cuda" || engine === "webgpu") return; // the suite awaits these to copy them to the host

  const calls: Record<string, (model: SafeTensorsModel<HostTensor>) => Promise<unknown>> = {
    getTensor: (model) => model.getTensor("large"),
    "getTensor with a dtype": (model) => model.getTensor("large", { dtype: "F16" }),
    getSlice: (model) => model.getSlice("large", null, [0, 7]),
    getSharded: (model) => model.getSharded("large", 0),
    "getSharded from the file": (model) => model.getSharded("large", 0, { from: "file" }),
    whenLoaded: (model) => model.whenLoaded(),
    "the iterator": (model) => model[Symbol.asyncIterator]().next(),
  };
  for (const [what, call] of Object.entries(calls)) {
    test(`a promise of ${what} that close() rejects does not end the process`, async (folder) => {
      const path = `${folder}/model.safetensors`;
      await writeFile(path, SPECS);
      for (const lazy of [true, false]) {
        let given: Promise<unknown> | undefined;
        const count = await unhandled(async () => {
          const model = await fastsafeOpen(path, { lazy, blockBytes: 4096, maxThreads: 1 });
          given = call(model);
          await model.close();
        });
        assertEquals(count, 0);
        // The load may have finished before.
        await given!.catch((error) => assert(error instanceof UseAfterCloseError, String(error)));
      }
    });
  }

  test("an error of close() reaches the try of a function without await", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    const count = await unhandled(async () => {
      const load = async () => {
        await using model = await fastsafeOpen(path, { lazy: true });
        return model.getTensor("large"); // no await: the model is closed first
      };
      await assertRejects(load, UseAfterCloseError, "closed");
    });
    assertEquals(count, 0);
  });

  test("a promise that a signal rejects does not end the process", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    const count = await unhandled(async () => {
      const controller = new AbortController();
      const { signal } = controller;
      await using model = await fastsafeOpen(path, { lazy: true, signal });
      model.getTensor("large");
      model[Symbol.asyncIterator]().next();
      new ParallelLoader(null, path, { signal }).iterateWeights().next();
      fastsafeOpen(path, { signal });
      const loader = new SafeTensorsFileLoader(null, { signal });
      loader.addFilenames({ 0: path });
      loader.copyFilesToDevice();
      controller.abort(new Error("enough"));
      await new Promise((resolve) => setTimeout(resolve, 20));
      await loader.close();
    });
    assertEquals(count, 0);
  });

  const functions: Record<string, (path: string, signal: AbortSignal) => Promise<unknown>> = {
    fastsafeOpen: (path, signal) => fastsafeOpen(path, { signal }),
    autoOpen: (path, signal) => autoOpen(path, { signal }),
    openPyTorch: (path, signal) => openPyTorch(path, { signal }),
    convertPyTorch: (path, signal) => convertPyTorch(path, `${path}.out`, { signal }),
    saveFile: (path, signal) => {
      return saveFile({ x: { dtype: "U8", shape: [1], data: new Uint8Array(1) } }, `${path}.out`, { signal });
    },
    "ParallelLoader.iterateWeights": (path, signal) =>
      new ParallelLoader(null, path, { signal }).iterateWeights().next(),
  };
  for (const [what, call] of Object.entries(functions)) {
    test(`a promise of ${what} that a signal rejects does not end the process`, async (folder) => {
      const path = `${folder}/model.safetensors`;
      await writeFile(path, SPECS);
      const reason = new Error("enough");
      let given: Promise<unknown> | undefined;
      const count = await unhandled(() => {
        given = call(path, AbortSignal.abort(reason));
        return new Promise((resolve) => setTimeout(resolve, 20));
      });
      assertEquals(count, 0);
      assertEquals(await assertRejects(() => given!), reason);
    });
  }
}
