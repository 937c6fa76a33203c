/**
 * `convert`: PyTorch checkpoints to safetensors files.
 */
import { convertPyTorch, type ConvertReport } from "../../mod.ts";
import { UsageError } from "./arguments.ts";
import type { Command } from "./command.ts";
import { asUsage, DTYPE, dtypeOf } from "./inputs.ts";
import { interruptible } from "./interrupt.ts";
import { ProgressBar } from "./progress_bar.ts";
import { formatBytes, formatCount, formatRate, formatSeconds, printable } from "./text.ts";

/** The command. */
export const convert: Command = {
  summary: "Convert a PyTorch checkpoint to safetensors, without running pickle",
  inputs: "[-i] <in.pt|folder|index.json> [-o <out.safetensors>]",
  description:
    "Converts a PyTorch checkpoint (.pt, .pth, .bin; also sharded) without running any pickle, in bounded memory " +
    "however large the checkpoint is. If it fails or is interrupted, what was there before is still there.",
  options: {
    input: {
      kind: "text",
      value: "FILE",
      help: "the checkpoint, its folder, or a pytorch_model.bin.index.json",
    },
    output: {
      kind: "text",
      value: "FILE",
      help: "what to write (default: beside the input, with the suffix .safetensors)",
    },
    dtype: DTYPE,
    "max-shard-bytes": {
      kind: "text",
      value: "N",
      help: "shards of at most this size, such as 5GB, and an index (default: one file)",
    },
    overwrite: { kind: "flag", help: "replace what is there; otherwise an existing output is an error" },
    "dry-run": { kind: "flag", help: "read and check the checkpoint, write nothing" },
    validate: { kind: "flag", help: "read the result back and compare every tensor's bytes" },
    json: { kind: "flag", help: "print the report as JSON" },
  },
  examples: [
    ["convert -i pytorch_model.bin", "writes pytorch_model.safetensors"],
    ["convert -i model.pt -o half.safetensors --dtype BF16 --validate", "in half the size, and proved"],
    ["convert -i big/ -o out/model.safetensors --max-shard-bytes 5GB", "in shards with an index"],
  ],

  async run(args) {
    const [positional, ...more] = args.inputs;
    const input = args.text("input") ?? positional;
    if (input === undefined) throw new UsageError("No checkpoint was given: -i FILE");
    if (more.length > 0 || (args.text("input") !== undefined && positional !== undefined)) {
      throw new UsageError("One checkpoint at a time can be converted");
    }
    const json = args.flag("json");
    const dtype = dtypeOf(args);
    const maxShardBytes = args.bytes("max-shard-bytes");
    const dryRun = args.flag("dry-run");
    using bar = new ProgressBar("Converting", { quiet: json });
    const report = await interruptible(
      "Interrupted, what was not complete was removed",
      (signal) =>
        asUsage(() =>
          convertPyTorch(input, args.text("output"), {
            overwrite: args.flag("overwrite"),
            dryRun,
            validate: args.flag("validate"),
            ...dtype === undefined ? {} : { dtype },
            ...maxShardBytes === undefined ? {} : { maxShardBytes },
            signal,
            onProgress: ({ bytes, totalBytes }) => bar.update(bytes, totalBytes),
          })
        ),
    );
    bar[Symbol.dispose]();
    console.log(json ? JSON.stringify(forJson(report, dryRun), null, 2) : describe(report, dryRun));
  },
};

/** A map is no JSON. */
function forJson(report: ConvertReport, dryRun: boolean): unknown {
  return { ...report, dryRun, aliases: Object.fromEntries(report.aliases) };
}

function describe(report: ConvertReport, dryRun: boolean): string {
  const { paths, tensors, bytes, aliases, skipped, seconds } = report;
  const rate = formatRate(bytes / seconds / 1e9);
  const lines = [
    `${dryRun ? "Would write" : "Wrote"}: ${paths.map(printable).join(", ")}`,
    `Tensors: ${formatCount(tensors, "tensor")} of ${formatBytes(bytes)}`,
  ];
  if (aliases.size > 0) {
    lines.push(`Aliases: ${formatCount(aliases.size, "name")} of tensors that are written once`);
    for (const [name, kept] of aliases) lines.push(`  ${printable(name)} = ${printable(kept)}`);
  }
  if (skipped.length > 0) {
    lines.push(`Left out: ${formatCount(skipped.length, "value")} that are no tensors`);
    for (const { name, kind } of skipped) lines.push(`  ${printable(name)}: ${printable(kind)}`);
  }
  if (report.validated) lines.push("Validated: every tensor reads back with the same bytes");
  if (!dryRun) lines.push(`Time:    ${formatSeconds(seconds)}, ${rate}`);
  return lines.join("\n");
}
