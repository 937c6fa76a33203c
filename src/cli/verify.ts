/**
 * `verify`: reads every byte of files, and compares the checksums with known ones.
 */
import type { SafeTensorsModel } from "../../mod.ts";
import { quote } from "../base/text.ts";
import { type Index, resolveInputs } from "../files/inputs.ts";
import { LocalNames } from "../files/native/local_names.ts";
import type { Command } from "./command.ts";
import { compareChecksums, computeChecksums, type Mismatch, readChecksums } from "./checksums.ts";
import { asUsage, fileNotes, MODEL_INPUTS, openModel } from "./inputs.ts";
import { ProgressBar } from "./progress_bar.ts";
import { formatBytes, formatCount, printable } from "./text.ts";

/** The command. */
export const verify: Command = {
  summary: "Read every byte and check it against its header, or known checksums",
  inputs: MODEL_INPUTS,
  description:
    "Checks headers and the index, reads every byte, and compares the checksums of tensors with known ones, if given.",
  options: {
    checksums: {
      kind: "text",
      value: "FILE",
      help:
        'JSON: tensor name → SHA-256 in hexadecimal, or → an object with it as "sha256"; or what --json printed',
    },
    json: { kind: "flag", help: "print what was checked, and the checksum of every tensor, as JSON" },
  },
  examples: [
    ["verify model.safetensors", "check that a download is complete"],
    ["verify model/ --json > checksums.json", "record the checksums"],
    ["verify model/ --checksums checksums.json", "compare with them later"],
  ],

  async run(args) {
    const list = args.text("checksums");
    const known = list === undefined ? null : await readChecksums(list);
    const json = args.flag("json");
    await using model = await openModel(args.inputs, { lazy: true });
    const { indexes } = await asUsage(() => resolveInputs(new LocalNames(), args.inputs, { size: 1 }));
    const checksums = known || json ? await hashAll(model, json) : await readAll(model);
    const misplaced = indexes.flatMap((index) => misplacedIn(model, index));
    const mismatches = known ? compareChecksums(checksums, known) : [];
    const report: Report = {
      ok: mismatches.length === 0 && misplaced.length === 0,
      files: model.metadata().size,
      index: indexes.length > 0,
      misplaced,
      tensors: model.keys().length,
      bytes: model.stats().bytes,
      compared: known ? known.size - mismatches.length : 0,
      mismatches,
      notes: fileNotes(model),
      checksums: Object.fromEntries(checksums),
    };
    console.log(json ? JSON.stringify(report, null, 2) : describe(report, known !== null));
    if (!report.ok) throw new Error(complain(report, known?.size ?? 0));
  },
};

interface Report {
  /** True if every check passed. */
  ok: boolean;
  files: number;
  /** Whether an index was compared with the files. */
  index: boolean;
  /** Tensors that are not in the file that an index names. */
  misplaced: readonly Misplaced[];
  tensors: number;
  bytes: number;
  /** Known checksums that agree. */
  compared: number;
  mismatches: readonly Mismatch[];
  /** Notes on the files, such as files that were left out. */
  notes: readonly string[];
  checksums: Record<string, string>;
}

interface Misplaced {
  tensor: string;
  /** The file that the index names. */
  expected: string;
  /** The file that has the tensor; null if no file has it. */
  actual: string | null;
}

async function readAll(model: SafeTensorsModel): Promise<Map<string, string>> {
  using bar = new ProgressBar("Reading");
  const totalBytes = sizeOf(model);
  let bytes = 0;
  for await (const [, tensor] of model) bar.update(bytes += tensor.byteLength, totalBytes);
  return new Map();
}

async function hashAll(model: SafeTensorsModel, quiet: boolean): Promise<Map<string, string>> {
  using bar = new ProgressBar("Verifying", { quiet });
  const totalBytes = sizeOf(model);
  const checksums = await computeChecksums(model, { onProgress: (bytes) => bar.update(bytes, totalBytes) });
  return new Map(model.keys().map((name) => [name, checksums.get(name)!]));
}

function sizeOf(model: SafeTensorsModel): number {
  return model.keys().reduce((sum, name) => sum + model.info(name).byteLength, 0);
}

function misplacedIn(model: SafeTensorsModel, { weightMap }: Index): Misplaced[] {
  const found = Array.from(weightMap, ([tensor, expected]) => {
    return { tensor, expected, actual: model.has(tensor) ? model.info(tensor).path : null };
  });
  return found.filter(({ expected, actual }) => actual !== expected);
}

function describe(report: Report, compared: boolean): string {
  const { files, tensors, bytes, misplaced, mismatches } = report;
  const indexed = misplaced.length === 0
    ? "every tensor is in the file that the index names"
    : `${formatCount(misplaced.length, "tensor")} not in the file that the index names`;
  const lines = [
    `Headers:   ${formatCount(files, "file")}, each described by its header to the last byte`,
    `Index:     ${report.index ? indexed : "none"}`,
    ...misplaced.map(({ tensor, expected, actual }) =>
      `  ${printable(tensor)}: ${printable(expected)} expected, ${printable(actual ?? "no file")} has it`
    ),
    `Tensors:   ${formatCount(tensors, "tensor")} of ${formatBytes(bytes)}, every byte was read`,
  ];
  const notes = report.notes.map((note) => `Note: ${printable(note)}`);
  if (!compared) return [...lines, "Checksums: none to compare with (--checksums FILE)", ...notes].join("\n");
  const others = tensors - report.compared - mismatches.filter(({ actual }) => actual !== null).length;
  const unknown = others > 0 ? `, ${formatCount(others, "tensor")} without a known checksum` : "";
  lines.push(`Checksums: ${report.compared} agree, ${mismatches.length} do not${unknown}`);
  for (const { tensor, expected, actual } of mismatches) {
    lines.push(`  ${printable(tensor)}: ${expected} expected, ${actual ?? "no such tensor"} found`);
  }
  return [...lines, ...notes].join("\n");
}

function complain({ misplaced, mismatches }: Report, known: number): string {
  const [lost] = misplaced;
  if (lost) {
    return `Verification failed: ${
      formatCount(misplaced.length, "tensor")
    } not in the file that the index names, ` +
      `the first is ${quote(lost.tensor)}`;
  }
  const { tensor } = mismatches[0]!;
  return `Verification failed: ${mismatches.length} of ${known} checksums do not agree, the first is that of ${
    quote(tensor)
  }`;
}
