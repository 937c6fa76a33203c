/**
 * `convert`: converts PyTorch checkpoints to safetensors files.
 */
import { convertPyTorch, type ConvertReport, type SkippedValue } from "../pytorch/mod.ts";
import { UsageError } from "./arguments.ts";
import { CHECKPOINT, checkpointOptionsOf } from "./checkpoints.ts";
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
    "Converts a PyTorch checkpoint (.pt, .pth, .bin, .ckpt, .pth.tar or any other name; also sharded) without " +
    "running any pickle, in bounded memory however large the checkpoint is. Values that are not tensors are left out " +
    "and listed. If it fails or is interrupted, existing files stay unchanged.",
  options: {
    input: {
      kind: "text",
      value: "FILE",
      help: "the checkpoint, its folder, or a pytorch_model.bin.index.json",
    },
    output: {
      kind: "text",
      value: "FILE",
      help: "the file to write (default: beside the input, with the suffix .safetensors)",
    },
    root: CHECKPOINT.root,
    dtype: DTYPE,
    "max-shard-bytes": {
      kind: "text",
      value: "N",
      help: "write shards of at most this size, such as 5GB, and an index (default: one file)",
    },
    overwrite: { kind: "flag", help: "replace existing files; otherwise an existing output is an error" },
    "dry-run": { kind: "flag", help: "read and check the checkpoint, write nothing" },
    validate: { kind: "flag", help: "read the result back and compare every tensor's bytes" },
    limit: CHECKPOINT.limit,
    json: { kind: "flag", help: "print the report as JSON" },
  },
  examples: [
    ["convert -i pytorch_model.bin", "writes pytorch_model.safetensors"],
    ["convert -i model.pt -o half.safetensors --dtype BF16 --validate", "half the size, and verified"],
    ["convert -i big/ -o out/model.safetensors --max-shard-bytes 5GB", "shards with an index"],
  ],

  async run(args) {
    const [positional, ...more] = args.inputs;
    const named = args.text("input");
    const input = named ?? positional;
    if (input === undefined) throw new UsageError("No checkpoint was given: -i FILE");
    if (more.length > 0 || (named !== undefined && positional !== undefined)) {
      throw new UsageError("One checkpoint at a time can be converted");
    }
    const json = args.flag("json");
    const dtype = dtypeOf(args);
    const maxShardBytes = args.bytes("max-shard-bytes");
    const dryRun = args.flag("dry-run");
    using bar = new ProgressBar("Converting", { quiet: json });
    const report = await interruptible(
      "Interrupted, incomplete files were removed",
      (signal) =>
        asUsage(() =>
          convertPyTorch(input, args.text("output"), {
            ...checkpointOptionsOf(args),
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

/** JSON cannot represent a map. */
function forJson(report: ConvertReport, dryRun: boolean): unknown {
  return { ...report, dryRun, aliases: Object.fromEntries(report.aliases) };
}

function describe(report: ConvertReport, dryRun: boolean): string {
  const { paths, tensors, bytes, writtenBytes, aliases, skipped, notes, seconds } = report;
  const rate = formatRate(bytes / seconds / 1e9);
  const lines = [
    `${dryRun ? "Would write" : "Wrote"}: ${paths.map(printable).join(", ")}`,
    `Tensors: ${formatCount(tensors, "tensor")} of ${formatBytes(writtenBytes)}` +
    (writtenBytes === bytes ? "" : ` (${formatBytes(bytes)} in the checkpoint)`),
  ];
  if (aliases.size > 0) {
    lines.push(`Aliases: ${formatCount(aliases.size, "name")} of tensors that are stored once`);
    for (const [name, kept] of aliases) lines.push(`  ${printable(name)} = ${printable(kept)}`);
  }
  if (skipped.length > 0) lines.push(...describeSkipped(skipped));
  for (const note of notes) lines.push(`Note: ${printable(note)}`);
  if (report.validated) lines.push("Validated: every tensor reads back with the same bytes");
  if (!dryRun) lines.push(`Time:    ${formatSeconds(seconds)}, ${rate}`);
  return lines.join("\n");
}

function describeSkipped(skipped: readonly SkippedValue[]): string[] {
  const tensors = skipped.reduce((sum, { tensors = 0, isTensor }) => sum + (isTensor ? 1 : tensors), 0);
  const others = skipped.filter(({ tensors, isTensor }) => !isTensor && tensors === undefined).length;
  const counts = [
    ...tensors === 0 ? [] : [formatCount(tensors, "tensor")],
    ...others === 0
      ? []
      : [`${formatCount(others, "value")} that ${others === 1 ? "is not a tensor" : "are not tensors"}`],
  ];
  const hasParts = skipped.some(({ tensors }) => tensors !== undefined);
  return [
    `Left out: ${counts.join(" and ")}${hasParts ? "; --root NAME converts a part that has tensors" : ""}`,
    ...skipped.map(({ name, kind, tensors }) =>
      tensors === undefined
        ? `  ${printable(name)}: ${printable(kind)}`
        : `  ${formatCount(tensors, "tensor")} in ${printable(name)}: ${printable(kind)}`
    ),
  ];
}
