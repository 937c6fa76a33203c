/**
 * A program of its own, for save/leak_test.ts: saves again and again, well and badly, and prints what it holds after a
 * warm-up and at the end. Arguments: the engine, a folder, how often.
 */
import { useLibrary } from "../../ffi/library.ts";
import { fastsafeOpen, saveFile } from "../../mod.ts";
import { openDescriptors, threadCount } from "../support/process.ts";

declare const gc: () => void;

const [engine, folder, rounds] = Deno.args as [string, string, string];
if (engine === "portable") {
  useLibrary(null);
  console.warn = () => {};
}

const path = `${folder}/model.safetensors`;
const size = 1_200_000;
const names = ["a", "b", "c"];
const shapes = names.map((name) => ({ name, dtype: "U8", shape: [size] } as const));
const tensors = () => names.map((name) => [name, { ...shapes[0]!, data: new Uint8Array(size) }] as const);

async function expectError(act: () => Promise<unknown>): Promise<void> {
  try {
    await act();
  } catch {
    return;
  }
  throw new Error("This should have failed");
}

/** One save of each kind that there is, by turns; the sets replace one another. */
const ACTS: readonly (() => Promise<unknown>)[] = [
  () => saveFile(tensors(), path, { overwrite: true, sync: false }),
  () => saveFile(tensors(), path, { overwrite: true, maxShardBytes: size }),
  async () => {
    await using model = await fastsafeOpen(`${path}.index.json`, { lazy: true });
    await saveFile(model, `${folder}/copy.safetensors`, { overwrite: true });
  },
  () => expectError(() => saveFile(tensors(), path)),
  () => expectError(() => saveFile(tensors(), `${folder}/missing/x`)),
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

async function held(): Promise<Record<string, number>> {
  for (let turn = 0; turn < 3; turn++) {
    gc();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const { rss, heapUsed, external } = Deno.memoryUsage();
  // Deno opens its own caches when it feels like it.
  const descriptors = openDescriptors() - openDescriptors(Deno.env.get("DENO_DIR"));
  return { rss, heapUsed, external, descriptors, threads: threadCount() };
}

const total = Number(rounds);
for (let round = 0; round < total / 4; round++) await ACTS[round % ACTS.length]!();
const before = await held();
for (let round = 0; round < total; round++) await ACTS[round % ACTS.length]!();
console.log(JSON.stringify({ before, after: await held(), files: [...Deno.readDirSync(folder)].length }));
