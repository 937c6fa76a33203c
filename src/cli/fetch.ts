/**
 * `fetch`: fetches the files of a model into the cache.
 */
import { fetchModel, type FetchReport } from "../deno/fetch_model.ts";
import { UsageError } from "./arguments.ts";
import { CACHE_FOLDER } from "./cache.ts";
import type { Command } from "./command.ts";
import { asUsage, nameFilter, NAMES } from "./inputs.ts";
import { interruptible } from "./interrupt.ts";
import { ProgressBar } from "./progress_bar.ts";
import { formatBytes, formatCount, formatRate, formatSeconds, printable } from "./text.ts";

/** The command. */
export const fetchCommand: Command = {
  summary: "Fetch the files of a model into the cache",
  inputs: "<hf://org/name|https://…|s3://…>…",
  description:
    "Fetches the safetensors files of a model into the cache, from which later loads read them at the speed of the " +
    "disk; Python's tools find files of the Hub there, too. What is there already is not fetched again. After an " +
    "interruption the bytes stay, and the next fetch or load goes on.",
  options: {
    names: NAMES,
    cache: CACHE_FOLDER,
    json: { kind: "flag", help: "print what was fetched as JSON" },
  },
  examples: [
    ["fetch hf://org/name", "a model of the Hub"],
    ["fetch hf://org/name@main/unet --names '*.attn.*'", "some tensors of one of its folders"],
  ],

  async run(args) {
    if (args.inputs.length === 0) throw new UsageError("No model was named");
    const json = args.flag("json");
    const report = await interruptible(
      "The fetch was interrupted, its bytes stay in the cache: the same command goes on",
      async (signal) => {
        using bar = new ProgressBar("Fetching", { quiet: json });
        return await asUsage(() =>
          fetchModel(args.inputs, {
            names: nameFilter(args.list("names")),
            cache: args.text("cache"),
            signal,
            onProgress: (bytes, totalBytes) => bar.update(bytes, totalBytes),
          })
        );
      },
    );
    console.log(json ? JSON.stringify(report, null, 2) : summarize(report));
  },
};

function summarize({ files, bytes, fetched, seconds, notes }: FetchReport): string {
  const what = `${formatBytes(bytes)} of ${formatCount(files, "file")}`;
  const how = fetched === 0
    ? "all of it was in the cache"
    : `${formatBytes(fetched)} came over the network in ${formatSeconds(seconds)}, ${
      formatRate(fetched / seconds / 1e9)
    }`;
  return [`The cache has ${what}: ${how}`, ...notes.map((note) => `  note: ${printable(note)}`)].join("\n");
}
