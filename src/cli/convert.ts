/**
 * `convert`: converts PyTorch checkpoints to safetensors files.
 */
import type { Progress } from "../../mod.ts";
import {
  type ConvertOptions,
  convertPyTorch,
  type ConvertReport,
  type SkippedValue,
} from "../pytorch/mod.ts";
import { quote } from "../base/text.ts";
import { type Arguments, UsageError } from "./arguments.ts";
import { CHECKPOINT, checkpointOptionsOf } from "./checkpoints.ts";
import type { Command } from "./command.ts";
import { areSeveral, convertEach, type Converted } from "./convert_each.ts";
import { asUsage, describeCasts, DTYPE, dtypeOf } from "./inputs.ts";
import { interruptible } from "./interrupt.ts";
import { inOwnWords } from "./own_words.ts";
import { ProgressBar } from "./progress_bar.ts";
import { formatBytes, formatCount, formatRate, formatSeconds, printable } from "./text.ts";

/** The command. */
export const convert: Command = {
  summary: "Convert a PyTorch checkpoint to safetensors, without running pickle",
  inputs: "[-i] <in.pt|folder|index.json> [-o <out.safetensors>]",
  description:
    "Converts a PyTorch checkpoint (.pt, .pth, .bin, .ckpt, .pth.tar or any other name; also sharded) without " +
    "running any pickle, in bounded memory however large the checkpoint is. Values that are not tensors are left out " +
    "and listed. If it fails or is interrupted, existing files stay unchanged. The checkpoints of a folder that are " +
    "not one model are converted one by one; a bad one does not stop the others, but the exit status is 1.",
  options: {
    input: {
      kind: "text",
      value: "FILE",
      help: "the checkpoint, its folder, or a pytorch_model.bin.index.json",
    },
    output: {
      kind: "text",
      value: "FILE",
      help:
        "the file to write (default: beside the input, with the suffix .safetensors); with --each the folder",
    },
    each: {
      kind: "flag",
      help: "convert every checkpoint of a folder to a file of its own (default if they are not one model)",
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
    ["convert --each runs/ -o converted/", "every checkpoint in a folder"],
  ],

  async run(args) {
    const [positional, ...more] = args.inputs;
    const named = args.text("input");
    const input = named ?? positional;
    if (input === undefined) throw new UsageError("No checkpoint was given: -i FILE");
    if (more.length > 0 || (named !== undefined && positional !== undefined)) {
      throw new UsageError("One checkpoint, or one folder of them, at a time can be converted");
    }
    const output = args.text("output");
    const options = convertOptions(args);
    await interruptible("Interrupted, incomplete files were removed", async (signal) => {
      if (args.flag("each")) return await convertAll(args, input, { ...options, signal });
      try {
        const report = await convertOne(args, input, output, { ...options, signal });
        console.log(args.flag("json") ? toJson(forJson(report)) : describe(report));
      } catch (error) {
        if (!await areSeveral(input, error)) throw error;
        await convertAll(args, input, { ...options, signal });
      }
    });
  },
};

/** The options of the library that were given. */
function convertOptions(args: Arguments): ConvertOptions {
  const dtype = dtypeOf(args);
  const maxShardBytes = args.bytes("max-shard-bytes");
  return {
    ...checkpointOptionsOf(args),
    overwrite: args.flag("overwrite"),
    dryRun: args.flag("dry-run"),
    validate: args.flag("validate"),
    ...dtype === undefined ? {} : { dtype },
    ...maxShardBytes === undefined ? {} : { maxShardBytes },
  };
}

/** A report, and whether files were written. */
type Report = ConvertReport & { readonly dryRun: boolean };

async function convertOne(
  args: Arguments,
  input: string,
  output: string | undefined,
  options: ConvertOptions,
): Promise<Report> {
  using bar = new ProgressBar("Converting", { quiet: args.flag("json") });
  const onProgress = ({ bytes, totalBytes }: Progress) => bar.update(bytes, totalBytes);
  const report = await asUsage(() => convertPyTorch(input, output, { ...options, onProgress }));
  return { ...report, dryRun: options.dryRun === true };
}

async function convertAll(
  args: Arguments,
  folder: string,
  options: ConvertOptions & { readonly signal: AbortSignal },
): Promise<void> {
  const json = args.flag("json");
  const { all, leftOut } = await convertEach(folder, {
    output: args.text("output"),
    signal: options.signal,
    convert: (input, output) => convertOne(args, input, output, options),
    explain: (error) => inOwnWords(error, Object.keys(convert.options)),
    onConverted: (one) => json || console.log(describeOne(one)),
  });
  const failed = all.flatMap((one) => "error" in one ? [one] : []);
  const done = all.flatMap((one) => "error" in one ? [] : [{ input: one.input, ...forJson(one.report) }]);
  const verb = options.dryRun ? "can be converted" : done.length === 1 ? "was converted" : "were converted";
  console.log(
    json
      ? toJson({ converted: done, failed, leftOut })
      : [`${done.length} of ${formatCount(all.length, "checkpoint")} ${verb}`, ...noteOn(leftOut)].join("\n"),
  );
  const [first] = failed;
  if (!first) return;
  throw new Error(
    `${failed.length} of ${formatCount(all.length, "checkpoint")} could not be converted, the first is ` +
      quote(first.input),
  );
}

function noteOn(leftOut: readonly string[]): string[] {
  return leftOut.length === 0 ? [] : [`Note: left out: ${leftOut.map(quote).join(", ")}`];
}

function describeOne(one: Converted<Report>): string {
  const text = "error" in one ? `Failed: ${printable(one.error)}` : describe(one.report);
  return [printable(one.input), ...text.split("\n").map((line) => `  ${line}`)].join("\n");
}

/** The report with objects for maps, which JSON does not have. */
function forJson(report: Report) {
  return {
    ...report,
    aliases: Object.fromEntries(report.aliases),
    dtypes: Object.fromEntries(report.dtypes),
  };
}

function toJson(value: unknown): string {
  return JSON.stringify(value, null, 2);
}

function describe(report: Report): string {
  const { paths, tensors, bytes, writtenBytes, dtypes, aliases, skipped, notes, seconds, dryRun } = report;
  const casts = describeCasts(dtypes);
  const rate = formatRate(bytes / seconds / 1e9);
  const lines = [
    `${dryRun ? "Would write" : "Wrote"}: ${paths.map(printable).join(", ")}`,
    `Tensors: ${formatCount(tensors, "tensor")} of ${formatBytes(writtenBytes)}` +
    (casts === "" ? "" : ` (${formatBytes(bytes)} in the checkpoint; ${casts})`),
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
