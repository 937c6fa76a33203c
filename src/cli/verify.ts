/**
 * `verify`: reads every byte of files, and compares the checksums with known ones.
 */
import type { SafeTensorsModel } from "../../mod.ts";
import { quote } from "../base/text.ts";
import { type Index, isRemote } from "../files/inputs.ts";
import { type Naming, PYTORCH } from "../files/model_folder.ts";
import { CHECKPOINT, checkpointOptionsOf, findInputs, namingOf } from "./checkpoints.ts";
import { READ_ONLY } from "./cache.ts";
import type { Command } from "./command.ts";
import { compareChecksums, computeChecksums, type Mismatch, readChecksums } from "./checksums.ts";
import {
  type ComparedFile,
  compareFiles,
  knownBlobs,
  type KnownFile,
  listedFiles,
  totalSize,
} from "./file_checksums.ts";
import { asUsage, fileNotes, MODEL_INPUTS, openModel } from "./inputs.ts";
import { ProgressBar } from "./progress_bar.ts";
import { formatBytes, formatCount, printable } from "./text.ts";

/** The command. */
export const verify: Command = {
  summary: "Read every byte and check it against its header, or known checksums",
  inputs: MODEL_INPUTS,
  description:
    "Checks headers and the index, reads every byte, and compares the checksums of tensors with known ones, if given. " +
    "Files in a Hugging Face cache are compared with the SHA-256 that is the name of their blob.",
  options: {
    checksums: {
      kind: "text",
      value: "FILE",
      help:
        'JSON: tensor name → SHA-256 in hexadecimal, or → an object with it as "sha256"; or what --json printed',
    },
    sha256: {
      kind: "text",
      value: "FILE",
      help:
        "checksums of whole files, as sha256sum writes them; names in it are relative to the working folder, " +
        "or to its own folder",
    },
    ...CHECKPOINT,
    json: { kind: "flag", help: "print what was checked, and the checksum of every tensor, as JSON" },
  },
  examples: [
    ["verify model.safetensors", "check that a download is complete"],
    ["verify model/ --json > checksums.json", "record the checksums"],
    ["verify model/ --checksums checksums.json", "compare with them later"],
    ["verify model/ --sha256 model/SHA256SUMS", "compare the files with a list of sha256sum"],
  ],

  async run(args) {
    const list = args.text("checksums");
    const known = list === undefined ? null : await readChecksums(list);
    const json = args.flag("json");
    await using model = await openModel(args.inputs, {
      ...checkpointOptionsOf(args),
      lazy: true,
      cache: READ_ONLY,
    });
    const naming = await namingOf(args.inputs);
    using found = await asUsage(() => findInputs(args.inputs, naming));
    const { indexes } = found.inputs;
    const knownFiles = await findKnownFiles(model.files(), indexes, args.text("sha256"));
    const checksums = known || json ? await hashAll(model, json) : await readAll(model);
    const files = await hashFiles(knownFiles, json);
    const misplaced = indexes.flatMap((index) => misplacedIn(model, index));
    const mismatches = known ? compareChecksums(checksums, known) : [];
    const report: Report = {
      ok: mismatches.length === 0 && misplaced.length === 0 && !files.some(differs),
      files: model.files().length,
      index: indexes.length > 0,
      misplaced,
      tensors: model.keys().length,
      bytes: model.stats().bytes,
      compared: known ? known.size - mismatches.length : 0,
      mismatches,
      ...files.length > 0 ? { sha256: files } : {},
      notes: fileNotes(model),
      checksums: Object.fromEntries(checksums),
    };
    console.log(json ? JSON.stringify(report, null, 2) : describe(report, naming, known !== null));
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
  /** Files with a known checksum of the whole file; absent without any. */
  sha256?: readonly ComparedFile[];
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

async function findKnownFiles(
  paths: readonly string[],
  indexes: readonly Index[],
  list: string | undefined,
): Promise<KnownFile[]> {
  const local = paths.filter((path) => !isRemote(path));
  const blobs = await knownBlobs(local);
  if (list === undefined) return blobs;
  return [
    ...await listedFiles(
      [
        ...local,
        ...indexes.map(({ path }) => path),
      ].filter((path) => !isRemote(path)),
      list,
    ),
    ...blobs,
  ];
}

async function hashFiles(known: readonly KnownFile[], quiet: boolean): Promise<ComparedFile[]> {
  using bar = new ProgressBar("Verifying files", { quiet });
  const totalBytes = await totalSize(known);
  return await compareFiles(known, (bytes) => bar.update(bytes, totalBytes));
}

function differs({ expected, actual }: ComparedFile): boolean {
  return actual !== expected;
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

function describe(report: Report, naming: Naming, compared: boolean): string {
  const { files, tensors, bytes, misplaced, mismatches, sha256 = [] } = report;
  const indexed = misplaced.length === 0
    ? "every tensor is in the file that the index names"
    : `${formatCount(misplaced.length, "tensor")} not in the file that the index names`;
  const lines = [
    naming === PYTORCH
      ? `Files:     ${formatCount(files, "PyTorch checkpoint")}, every tensor lies in its file`
      : `Headers:   ${formatCount(files, "file")}, each described by its header to the last byte`,
    `Index:     ${report.index ? indexed : "none"}`,
    ...misplaced.map(({ tensor, expected, actual }) =>
      `  ${printable(tensor)}: ${printable(expected)} expected, ${printable(actual ?? "no file")} has it`
    ),
    `Tensors:   ${formatCount(tensors, "tensor")} of ${formatBytes(bytes)}, every byte was read`,
    ...describeFiles(sha256),
  ];
  const notes = report.notes.map((note) => `Note: ${printable(note)}`);
  if (!compared) {
    const none = sha256.length > 0
      ? []
      : ["Checksums: none to compare with (--checksums FILE, --sha256 FILE)"];
    return [...lines, ...none, ...notes].join("\n");
  }
  const others = tensors - report.compared - mismatches.filter(({ actual }) => actual !== null).length;
  const unknown = others > 0 ? `, ${formatCount(others, "tensor")} without a known checksum` : "";
  lines.push(`Checksums: ${report.compared} agree, ${mismatches.length} do not${unknown}`);
  for (const { tensor, expected, actual } of mismatches) {
    lines.push(`  ${printable(tensor)}: ${expected} expected, ${actual ?? "no such tensor"} found`);
  }
  return [...lines, ...notes].join("\n");
}

function describeFiles(files: readonly ComparedFile[]): string[] {
  if (files.length === 0) return [];
  const wrong = files.filter(differs).length;
  return [
    `SHA-256:   ${files.length - wrong} agree, ${wrong} do not`,
    ...files.map((file) => {
      const from = file.list === null ? "the name of its blob" : printable(file.list);
      const result = differs(file)
        ? `${file.expected} expected by ${from}, ${file.actual} found`
        : `agrees with ${from}`;
      return `  ${printable(file.path)}: ${result}`;
    }),
  ];
}

function complain({ misplaced, mismatches, sha256 = [] }: Report, known: number): string {
  const [lost] = misplaced;
  if (lost) {
    return `Verification failed: ${
      formatCount(misplaced.length, "tensor")
    } not in the file that the index names, ` +
      `the first is ${quote(lost.tensor)}`;
  }
  const wrong = sha256.filter(differs);
  if (wrong.length > 0) {
    return `Verification failed: ${wrong.length} of ${sha256.length} checksums of files do not agree, the first is ` +
      `that of ${quote(wrong[0]!.path)}`;
  }
  const { tensor } = mismatches[0]!;
  return `Verification failed: ${mismatches.length} of ${known} checksums do not agree, the first is that of ${
    quote(tensor)
  }`;
}
