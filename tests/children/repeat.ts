/**
 * A program for leak_long_test.ts: loads many times, with and without errors, and prints its resources after a
 * warm-up and at the end. Arguments: the engine, a folder with a model, how often.
 */
import { fastsafeOpen } from "../../mod.ts";
import { ParallelLoader, SafeTensorsFileLoader } from "../../src/compat/mod.ts";
import { expectError, repeat, useEngine } from "./repeating.ts";

const [engine, folder, rounds] = Deno.args as [string, string, string];
useEngine(engine);

/** One load of each kind, in turn. */
const ACTS: readonly (() => Promise<unknown>)[] = [
  async () => {
    await using model = await fastsafeOpen(folder);
    for await (const _ of model);
  },
  async () => {
    await using model = await fastsafeOpen(folder, { lazy: true, dtype: "F32" });
    await Promise.all(model.keys().map((name) => model.getTensor(name)));
    await model.getSlice(model.keys()[0]!, [0, 5]);
  },
  async () => {
    const model = await fastsafeOpen(folder, { blockBytes: 4096, maxThreads: 1 });
    await model.close();
  },
  async () => {
    const controller = new AbortController();
    await using model = await fastsafeOpen(folder, { blockBytes: 4096, signal: controller.signal });
    controller.abort();
    await model.whenLoaded().catch(() => {});
  },
  async () => {
    for await (const _ of new ParallelLoader(null, folder, { maxBytesInFlight: 50_000 }).iterateWeights()) {
      break;
    }
  },
  async () => {
    await using loader = new SafeTensorsFileLoader();
    await loader.addFilenames({ 0: `${folder}/model-00001-of-00002.safetensors` });
    await using buffer = await loader.copyFilesToDevice();
    await buffer.asDict();
  },
  () => expectError(() => fastsafeOpen([`${folder}/model-00001-of-00002.safetensors`, `${folder}/missing`])),
  () => expectError(() => fastsafeOpen(`${folder}/truncated`)),
  () =>
    expectError(async () => {
      await using model = await fastsafeOpen(`${folder}/changing`, { lazy: true });
      const { mtime } = await Deno.stat(`${folder}/changing`);
      await Deno.utime(`${folder}/changing`, mtime!, new Date(mtime!.getTime() + 1000));
      await model.getTensor(model.keys()[0]!);
    }),
];

console.log(JSON.stringify(await repeat(ACTS, Number(rounds))));
