/**
 * `demo`: creates a model, loads it, verifies every byte, cleans up.
 */
import { fastsafeOpen, prepare } from "../../mod.ts";
import { type Arguments, UsageError } from "./arguments.ts";
import { compareChecksums, computeChecksums } from "./checksums.ts";
import type { Command } from "./command.ts";
import { quote } from "../base/text.ts";
import { interruptible } from "./interrupt.ts";
import { summarize } from "./load.ts";
import { ProgressBar } from "./progress_bar.ts";
import { writeSyntheticModel } from "./synthetic_model.ts";
import { formatBytes, formatCount } from "./text.ts";

const DEFAULT_BYTES = 2 ** 30;

/** The command. */
export const demo: Command = {
  summary: "Create a sharded model of 1 GiB, load it, verify every byte, clean up",
  inputs: "",
  description:
    "Writes a synthetic model of 4 shards and an index into a temporary folder and computes the SHA-256 of every " +
    "tensor, loads the model, compares the SHA-256 of every loaded tensor, and removes the folder.",
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
    await interruptible("Interrupted, the temporary folder was removed", async (signal) => {
      const folder = await Deno.makeTempDir({ prefix: "fastsafetensors-demo-" });
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

  await using model = await withBar("Loading", async (update) => {
    const model = await fastsafeOpen(written.indexPath, {
      signal,
      onProgress: (progress) => update(progress.bytes),
    });
    await model.whenLoaded();
    return model;
  });
  const stats = model.stats();
  say(summarize(stats));

  const checksums = await withBar("Proving", (update) => {
    return computeChecksums(model, { signal, onProgress: update });
  });
  const mismatches = compareChecksums(checksums, written.checksums);
  if (mismatches.length > 0 || checksums.size !== written.checksums.size) {
    const wrong = mismatches.map(({ tensor }) => `${quote(tensor)}`).join(", ");
    throw new Error(`The demo failed: these tensors differ from the written ones: ${wrong}`);
  }
  say(`Verified ${formatCount(checksums.size, "tensor")} by SHA-256: every byte equals the written one`);
  if (quiet) console.log(JSON.stringify({ ...stats, proved: checksums.size }, null, 2));

  async function withBar<T>(
    label: string,
    work: (update: (bytes: number) => void) => Promise<T>,
  ): Promise<T> {
    using bar = new ProgressBar(label, { quiet });
    return await work((done) => bar.update(done, bytes));
  }
}
