/**
 * `inspect`: shows the content of files, from their headers alone.
 */
import type { SafeTensorsModel } from "../../mod.ts";
import { type Arguments, UsageError } from "./arguments.ts";
import { CHECKPOINT, checkpointOptionsOf } from "./checkpoints.ts";
import type { Command } from "./command.ts";
import { READ_ONLY } from "./cache.ts";
import { fileNotes, MODEL_INPUTS, nameFilter, NAMES, openModel, requireTensors } from "./inputs.ts";
import { styled } from "./terminal.ts";
import { drawTree, type ListedTensor } from "./tensor_tree.ts";
import { formatBytes, formatCount, formatTable, printable } from "./text.ts";

/** The command. */
export const inspect: Command = {
  summary: "Show tensors, shapes, dtypes and metadata; reads headers only",
  inputs: MODEL_INPUTS,
  description:
    "Shows the tensors of files as a tree, split at the dots in their names, with totals of every branch and dtype, " +
    "and the files' metadata. Branches that differ only in their number are shown once: layers.0–31 with 32 × 218 MB " +
    "is 32 branches of 218 MB each. Only headers are read.",
  options: {
    names: NAMES,
    ...CHECKPOINT,
    depth: { kind: "text", value: "N", help: "levels of the tree to show (default: all)" },
    list: { kind: "flag", help: "a list of all tensors, file by file, in the order of the file" },
    json: { kind: "flag", help: "print JSON: every file with its tensors" },
  },
  examples: [
    ["inspect model.safetensors", "the content of a file"],
    ["inspect ~/models/llama --depth 2", "an overview of a large model"],
    ["inspect model/ --names '*.experts.*' --list", "some tensors, by their full names"],
    ["inspect hf://org/name", "a model on the Hub, by the beginnings of its files"],
  ],

  async run(args) {
    const patterns = args.list("names");
    const depth = args.count("depth");
    const draw = drawingOf(args, depth);
    const names = nameFilter(patterns);
    await using model = await openModel(args.inputs, {
      ...checkpointOptionsOf(args),
      lazy: true,
      cache: READ_ONLY,
      ...names && { names },
    });
    requireTensors(model, patterns);
    console.log(draw(listFiles(model), fileNotes(model)));
  },
};

/** A file and its tensors, as `--json` prints them. */
interface ListedFile {
  readonly path: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: readonly ListedTensor[];
}

/** Longer metadata is cut, in characters: some files store pictures in it. */
const LONG_VALUE = 200;

/** Prints files, and notes on them. */
type Drawing = (files: readonly ListedFile[], notes: readonly string[]) => string;

/** Chooses one of three formats of the output. */
function drawingOf(args: Arguments, depth: number | undefined): Drawing {
  const list = args.flag("list"), json = args.flag("json");
  if (depth !== undefined && (list || json)) {
    throw new UsageError("--depth needs the tree: omit --list and --json");
  }
  if (list && json) throw new UsageError("--list and --json exclude each other");
  if (json) return (files, notes) => JSON.stringify({ files, ...totalsOf(files), notes }, null, 2);
  const draw = list ? drawList : (files: readonly ListedFile[]) => drawModel(files, depth);
  return (files, notes) => [draw(files), ...notes.map((note) => `Note: ${printable(note)}`)].join("\n");
}

function listFiles(model: SafeTensorsModel): ListedFile[] {
  const byPath = new Map<string, ListedTensor[]>();
  for (const path of model.files()) byPath.set(path, []);
  for (const key of model.keys()) {
    const { name, dtype, shape, byteLength, path } = model.info(key);
    byPath.get(path)!.push({ name, dtype, shape, bytes: byteLength });
  }
  return byPath.entries().map(([path, tensors]) => {
    return { path, metadata: model.metadata(path), tensors };
  }).toArray();
}

/** Totals of all files, and of every dtype in them, the largest first. */
interface Totals {
  readonly tensors: number;
  readonly bytes: number;
  readonly dtypes: Readonly<Record<string, { readonly tensors: number; readonly bytes: number }>>;
}

function totalsOf(files: readonly ListedFile[]): Totals {
  const dtypes: Record<string, { tensors: number; bytes: number }> = {};
  for (const { dtype, bytes } of files.flatMap((file) => file.tensors)) {
    const total = dtypes[dtype] ??= { tensors: 0, bytes: 0 };
    total.tensors++;
    total.bytes += bytes;
  }
  const sorted = Object.entries(dtypes).sort(([, a], [, b]) => b.bytes - a.bytes);
  return {
    tensors: sorted.reduce((sum, [, { tensors }]) => sum + tensors, 0),
    bytes: sorted.reduce((sum, [, { bytes }]) => sum + bytes, 0),
    dtypes: Object.fromEntries(sorted),
  };
}

function drawModel(files: readonly ListedFile[], depth: number | undefined): string {
  const totals = totalsOf(files);
  const dtypes = Object.entries(totals.dtypes)
    .map(([dtype, { tensors, bytes }]) => [dtype, formatCount(tensors, "tensor"), formatBytes(bytes)]);
  return [
    ...drawMetadata(files),
    ...totals.tensors > 0 ? [drawTree(files.flatMap((file) => file.tensors), depth)] : [],
    ...totals.tensors > 0 ? [formatTable(dtypes, [1, 2])] : [],
    drawTotal(files, totals),
  ].join("\n\n");
}

/** The metadata, once for all files with equal metadata. */
function drawMetadata(files: readonly ListedFile[]): string[] {
  const groups = Map.groupBy(files, ({ metadata }) => JSON.stringify(metadata)).values();
  return groups.filter(([file]) => Object.keys(file!.metadata).length > 0).map((group) => {
    const [{ path, metadata }] = group as [ListedFile];
    const others = group.length === 1 ? "" : ` and ${formatCount(group.length - 1, "other")}`;
    return [styled("bold", `Metadata of ${printable(path)}${others}`), ...drawPairs(metadata)].join("\n");
  }).toArray();
}

function drawPairs(metadata: Readonly<Record<string, string>>): string[] {
  return Object.entries(metadata).map(([key, value]) => {
    const cut = value.length > LONG_VALUE ? `… (${formatCount(value.length, "character")})` : "";
    return `  ${printable(key)}: ${printable(value.slice(0, LONG_VALUE))}${cut}`;
  });
}

function drawList(files: readonly ListedFile[]): string {
  const parts = files.map(({ path, metadata, tensors }) => {
    const rows = tensors.map(({ name, dtype, shape, bytes }) => {
      return [`  ${printable(name)}`, dtype, `[${shape.join(", ")}]`, formatBytes(bytes)];
    });
    const pairs = drawPairs(metadata);
    return [
      styled("bold", printable(path)),
      ...pairs.length > 0 ? ["  metadata", ...pairs.map((pair) => `  ${pair}`)] : [],
      ...rows.length > 0 ? [formatTable([["  tensor", "dtype", "shape", "bytes"], ...rows], [3])] : [],
    ].join("\n");
  });
  return [...parts, drawTotal(files, totalsOf(files))].join("\n\n");
}

function drawTotal(files: readonly ListedFile[], { tensors, bytes }: Totals): string {
  return `${formatCount(tensors, "tensor")} of ${formatBytes(bytes)} in ${formatCount(files.length, "file")}`;
}
