/**
 * `demo`: creates a model, loads it, verifies every byte, cleans up.
 */
import { fastsafeOpen, prepare, type SafeTensorsModel } from "../../mod.ts";
import { type Arguments, UsageError } from "./arguments.ts";
import { compareChecksums, computeChecksums } from "./checksums.ts";
import type { Command } from "./command.ts";
import { quote } from "../base/text.ts";
import { systemReason } from "../files/native/errno.ts";
import { interruptible } from "./interrupt.ts";
import { inMemory } from "./inputs.ts";
import { type LoadResult, summarize } from "./load.ts";
import { ProgressBar } from "./progress_bar.ts";
import { writeSyntheticModel } from "./synthetic_model.ts";
import { formatBytes, formatCount, formatRate, formatSeconds, formatTable } from "./text.ts";

const DEFAULT_BYTES = 2 ** 30;

/** The largest model: the headers of a larger one would not fit in memory. */
const MOST_BYTES = 2 ** 40;

/** Loads, and reads of the same files, in turns. */
const ROUNDS = 3;

/** A first load that takes more than this many times as long as the best one is explained. */
const FAR_SLOWER = 2;

/** The command. */
export const demo: Command = {
  summary: "Create a sharded model of 1 GiB, load it, verify every byte, clean up",
  inputs: "",
  description:
    "Writes a synthetic model of 4 shards and an index into a temporary folder and computes the SHA-256 of every " +
    "tensor, loads the model three times and in turns reads the same files with Deno.readFile, compares the SHA-256 of " +
    "every loaded tensor, and removes the folder.",
  options: {
    bytes: { kind: "text", value: "N", help: "size of the model, such as 500MB or 2GiB (default 1GiB)" },
    json: { kind: "flag", help: "print statistics as JSON" },
  },
  notes:
    "The files are probably in the page cache, since they are new: this is the speed of memory, not of storage.",
  examples: [
    ["demo", "does it work here?"],
    ["demo --bytes 100MB", "a smaller model"],
  ],

  async run(args) {
    if (args.inputs.length > 0) throw new UsageError(`demo takes no files, got ${quote(args.inputs[0]!)}`);
    const bytes = args.bytes("bytes") ?? DEFAULT_BYTES;
    if (bytes > MOST_BYTES) throw new UsageError(`--bytes must be at most 1TiB, got ${bytes}`);
    await interruptible("Interrupted, the temporary folder was removed", async (signal) => {
      const folder = await Deno.makeTempDir({ prefix: "fastsafetensors-demo-" }).catch((error) => {
        throw new Error(`Cannot make a temporary folder: ${systemReason(error)}`, { cause: error });
      });
      try {
        await demonstrate(args, folder, bytes, signal);
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    });
  },
};

async function demonstrate(
  args: Arguments,
  folder: string,
  bytes: number,
  signal: AbortSignal,
): Promise<void> {
  const quiet = args.flag("json");
  const say = (line: string) => quiet || console.log(line);
  await prepare(); // before the measurement: finds or builds the native library

  say(`Writing ${formatBytes(bytes)} of tensors in 4 shards to ${folder}`);
  const written = await withBar("Writing", (update) => {
    return writeSyntheticModel(folder, { bytes, signal, onProgress: update });
  });

  const loads: LoadResult[] = [], reads: number[] = [];
  while (loads.length < ROUNDS) {
    loads.push(await loadOnce(loads.length === ROUNDS - 1));
    reads.push(await readFiles(written.paths, signal));
  }
  const best = loads.toSorted((a, b) => a.seconds - b.seconds)[0]!;
  say(summarize(best, `, best of ${ROUNDS} loads: ${describeSpeed(best.bytes, best.seconds)}`));
  say(formatRounds(loads, best, reads));
  explainFirst(loads).forEach(say);
  say(
    `Verified ${formatCount(written.checksums.size, "tensor")} by SHA-256: every byte equals the written one`,
  );
  if (quiet) {
    const rounds = { loads: loads.map(({ seconds }) => seconds), readFile: reads };
    const dtypes = Object.fromEntries(best.dtypes);
    console.log(
      JSON.stringify({ ...best, dtypes, ...rounds, proved: written.checksums.size }, null, 2),
    );
  }

  /** Loads the model, and compares it with the written one if `isLast`; frees its memory. */
  async function loadOnce(isLast: boolean): Promise<LoadResult> {
    await using model = await withBar("Loading", async (update) => {
      const model = await fastsafeOpen(written.indexPath, {
        signal,
        onProgress: (progress) => update(progress.bytes),
      });
      await model.whenLoaded();
      return model;
    });
    if (isLast) await prove(model);
    const result = { ...model.stats(), ...inMemory(model) };
    const tensors = await Promise.all(model.keys().map((name) => model.getTensor(name)));
    for (const buffer of new Set(tensors.map(({ bytes }) => bytes.buffer))) buffer.transfer(0);
    return result;
  }

  async function prove(model: SafeTensorsModel): Promise<void> {
    const checksums = await withBar("Proving", (update) => {
      return computeChecksums(model, { signal, onProgress: update });
    });
    const mismatches = compareChecksums(checksums, written.checksums);
    if (mismatches.length === 0 && checksums.size === written.checksums.size) return;
    const wrong = mismatches.map(({ tensor }) => `${quote(tensor)}`).join(", ");
    throw new Error(`The demo failed: these tensors differ from the written ones: ${wrong}`);
  }

  async function withBar<T>(
    label: string,
    work: (update: (bytes: number) => void) => Promise<T>,
  ): Promise<T> {
    using bar = new ProgressBar(label, { quiet });
    return await work((done) => bar.update(done, bytes));
  }
}

/** Reads files at once as a program without this package does; returns the seconds and frees the memory. */
async function readFiles(paths: readonly string[], signal: AbortSignal): Promise<number> {
  const start = performance.now();
  const files = await Promise.all(paths.map((path) => Deno.readFile(path, { signal })));
  const seconds = (performance.now() - start) / 1000;
  for (const { buffer } of files) buffer.transfer(0);
  return seconds;
}

function describeSpeed(bytes: number, seconds: number): string {
  return `${formatSeconds(seconds)}, ${formatRate(bytes / seconds / 1e9)}`;
}

/** Explains a first load that took far longer than the best one; empty if it did not. */
export function explainFirst(loads: readonly { readonly seconds: number }[]): string[] {
  const times = loads[0]!.seconds / Math.min(...loads.map(({ seconds }) => seconds));
  if (times <= FAR_SLOWER) return [];
  return [
    `  The first load took ${
      times.toFixed(1)
    } times as long as the best one: the machine was slow to provide memory ` +
    "that was not in use before",
  ];
}

/** A table of the loads, and of the reads in turns with them. */
function formatRounds(loads: readonly LoadResult[], best: LoadResult, reads: readonly number[]): string {
  const row = (label: string, load: LoadResult, read: number) => [
    `  ${label}`,
    describeSpeed(load.bytes, load.seconds),
    describeSpeed(load.bytes, read),
  ];
  return formatTable([
    ["", "fastsafetensors", "Deno.readFile"],
    ...loads.map((load, round) => row(`round ${round + 1}`, load, reads[round]!)),
    row("best", best, Math.min(...reads)),
  ]);
}
