/**
 * A program for save/leak_long_test.ts: saves many times, with and without errors, and prints its resources after a
 * warm-up and at the end. Arguments: the engine, a folder, how often.
 */
import { fastsafeOpen, saveFile } from "../../mod.ts";
import { expectError, repeat, useEngine } from "./repeating.ts";

const [engine, folder, rounds] = Deno.args as [string, string, string];
useEngine(engine);

const path = `${folder}/model.safetensors`;
const size = 1_200_000;
const names = ["a", "b", "c"];
const shapes = names.map((name) => ({ name, dtype: "U8", shape: [size] } as const));
const tensors = () => names.map((name) => [name, { ...shapes[0]!, data: new Uint8Array(size) }] as const);

/** One save of each kind, in turn; the sets replace one another. */
const ACTS: readonly (() => Promise<unknown>)[] = [
  () => saveFile(tensors(), path, { overwrite: true, sync: false }),
  () => saveFile(tensors(), path, { overwrite: true, maxShardBytes: size }),
  async () => {
    await using model = await fastsafeOpen(`${path}.index.json`, { lazy: true });
    await saveFile(model, `${folder}/copy.safetensors`, { overwrite: true });
  },
  () => expectError(() => saveFile(tensors(), path)),
  () => expectError(() => saveFile(tensors(), `${folder}/copy.safetensors/x`)),
  () => expectError(() => saveFile(tensors().slice(1), `${folder}/x`, { shapes })),
  () =>
    expectError(async () => {
      const controller = new AbortController();
      const stream = async function* () {
        for (const pair of tensors()) {
          yield pair;
          await Promise.resolve();
          controller.abort();
        }
      };
      await saveFile(stream(), `${folder}/x`, { shapes, signal: controller.signal });
    }),
  () =>
    expectError(() => {
      const stream = (async function* () {
        yield tensors()[0]!;
        await Promise.reject(new Error("no more"));
      })();
      return saveFile(stream, `${folder}/x`, { shapes, maxShardBytes: size });
    }),
];

const held = await repeat(ACTS, Number(rounds));
console.log(JSON.stringify({ ...held, files: [...Deno.readDirSync(folder)].length }));
