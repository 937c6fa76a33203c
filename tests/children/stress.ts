/**
 * A program for source/stress.ts: closes and aborts loads and reads at random moments. Every result must be correct,
 * and every missing one must have an error. Arguments: the engine ("native", "3fs" or "portable"), a folder with
 * shards, the number of rounds, and the seed of the random numbers.
 */
import { Buffer } from "node:buffer";
import { assert, assertEquals } from "@std/assert";
import { deserialize, fastsafeOpen, type OpenOptions, UseAfterCloseError } from "../../mod.ts";
import { createReader, type FileHeader } from "../../src/three_fs/mod.ts";
import { SafeTensorsFileLoader } from "../../src/compat/mod.ts";
import { openDescriptors } from "../support/process.ts";
import { useEngine } from "./repeating.ts";

const [engine, folder, rounds, seed] = Deno.args as [string, string, string, string];
useEngine(engine);
const source = engine === "3fs" ? "3fs" : "file";

let state = Number(seed);

/** A random number below `limit`. */
function random(limit: number): number {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return Math.floor(state / 2 ** 32 * limit);
}

const pause = () => new Promise((resolve) => setTimeout(resolve, random(8)));

const paths = [...Deno.readDirSync(folder)].map(({ name }) => `${folder}/${name}`)
  .filter((path) => path.endsWith(".safetensors")).sort();
const files = new Map(paths.map((path) => [path, Deno.readFileSync(path)]));
const expected = new Map([...files.values()].flatMap((file) => [...deserialize(file)]));

class Enough extends Error {}

/** The number of results, and of ended calls. */
const counts = { done: 0, ended: 0 };

/** Counts the outcome of a call: it succeeded, or failed because it was closed or aborted. */
async function settle(what: string, work: Promise<void>): Promise<void> {
  try {
    await work;
    counts.done++;
  } catch (error) {
    assert(
      error instanceof UseAfterCloseError || error instanceof Enough,
      `${what}: ${error}\n${(error as Error).stack}`,
    );
    counts.ended++;
  }
}

function check(name: string, bytes: Uint8Array, start = 0, stop?: number): void {
  const right = expected.get(name)!.bytes.subarray(start, stop);
  assertEquals(bytes.byteLength, right.byteLength, name);
  if (Buffer.compare(bytes, right) !== 0) throw new Error(`tensor "${name}" differs`);
}

function options(): OpenOptions<"cpu"> {
  return {
    source,
    lazy: random(2) === 0,
    maxThreads: 1 + random(6),
    blockBytes: [65_536, 2 ** 18, 2 ** 22][random(3)]!,
    usrbio: { bufferBytes: [2 ** 20, 2 ** 22][random(2)]!, entries: 1 + random(16) },
  };
}

async function useModel(): Promise<void> {
  const controller = new AbortController();
  const model = await fastsafeOpen(folder, { ...options(), signal: controller.signal });
  const names = model.keys();
  const name = () => names[random(names.length)]!;
  const work: Promise<void>[] = [];
  for (let i = 0; i < 6; i++) {
    const one = name();
    const acts = [
      async () => check(one, (await model.getTensor(one)).bytes),
      async () => {
        const [rows, columns] = expected.get(one)!.shape as [number, number];
        const half = Math.floor(rows / 2);
        check(one, (await model.getSlice(one, [half, rows])).bytes, half * columns);
      },
      async () => check(one, (await model.getSharded(one, 0, { from: "file" })).bytes),
      async () => {
        for await (const [name, tensor] of model) check(name, tensor.bytes);
      },
    ];
    work.push(settle("model", acts[random(acts.length)]!()));
    if (random(2) === 0) await pause();
  }
  if (random(3) === 0) controller.abort(new Enough());
  if (random(2) === 0) await pause();
  const closing = model.close();
  if (random(4) === 0) await Promise.all([model.close(), closing]);
  await Promise.all([...work, closing]);
}

async function useReader(): Promise<void> {
  const backend = source === "3fs" ? "usrbio" : "posix";
  const reader = await createReader({ backend, bufferBytes: 2 ** 20, entries: 1 + random(16) });
  const work: Promise<void>[] = [];
  for (let i = 0; i < 4; i++) {
    const path = paths[random(paths.length)]!;
    const file = files.get(path)!;
    const controller = new AbortController();
    const acts = [
      async () => {
        const headers = await reader.readHeadersBatch(paths, { threads: 1 + random(4) });
        for (const [path, { headerLength }] of headers as Map<string, FileHeader>) {
          assertEquals(headerLength, 8 + Number(new DataView(files.get(path)!.buffer).getBigUint64(0, true)));
        }
      },
      async () => {
        const fileOffset = random(file.byteLength), totalLength = 1 + random(file.byteLength - fileOffset);
        const buffer = new Uint8Array(totalLength);
        const { signal } = controller;
        const range = { path, buffer, fileOffset, totalLength, pipelined: random(2) === 0, signal };
        assertEquals(await reader.readChunked({ ...range, chunkBytes: random(100_000) }), totalLength);
        if (buffer.some((byte, index) => byte !== file[fileOffset + index])) {
          throw new Error("a range differs");
        }
      },
    ];
    work.push(settle("reader", acts[random(acts.length)]!()));
    if (random(2) === 0) await pause();
    if (random(3) === 0) controller.abort(new Enough());
  }
  const closing = reader.close();
  await Promise.all([...work, closing, reader.close()]);
}

async function useLoader(): Promise<void> {
  const { lazy: _, ...rest } = options();
  const loader = new SafeTensorsFileLoader(null, rest);
  const work = settle(
    "loader",
    (async () => {
      await loader.addFilenames({ 0: paths });
      if (random(2) === 0) await pause();
      const buffer = await loader.copyFilesToDevice();
      const names = buffer.getKeys();
      const name = names[random(names.length)]!;
      const reading = settle("buffer", buffer.getTensor(name).then(({ bytes }) => check(name, bytes)));
      if (random(2) === 0) await pause();
      await buffer.close();
      await reading;
    })(),
  );
  await pause();
  await loader.close();
  await work;
}

const uses = engine === "portable"
  ? [useModel, useModel, useLoader]
  : [useModel, useModel, useReader, useLoader];
for (let round = 0; round < Number(rounds); round++) {
  await Promise.all(Array.from({ length: 1 + random(3) }, () => uses[random(uses.length)]!()));
  assertEquals(openDescriptors(folder), 0, `descriptors are open after round ${round}`);
}
console.log(JSON.stringify(counts));
