/**
 * `inspect`: what is in files, from their headers alone.
 */
import type { SafeTensorsModel, TensorSummary } from "../../mod.ts";
import { type Command, nameFilter, openModel, requireTensors } from "./command.ts";
import { formatBytes, formatCount, formatTable, printable } from "./text.ts";

/** The command. */
export const inspect: Command = {
  summary: "List tensors, shapes, dtypes and metadata; reads headers only",
  usage: `Usage: deno task inspect <file|dir|index.json>… [options]

Lists the tensors of files with their dtypes, shapes and bytes, and the files' metadata. Only headers are read.

  --names GLOB   only these tensors; * and ? are wildcards; may be given several times
  --json         print JSON
  --help         print this`,
  options: { names: "list" },

  async run(args) {
    const patterns = args.list("names");
    const names = nameFilter(patterns);
    await using model = await openModel(args.inputs, { lazy: true, ...names && { names } });
    requireTensors(model, patterns);
    const listing = listFiles(model);
    console.log(args.flag("json") ? JSON.stringify(listing, null, 2) : describe(listing));
  },
};

interface Listing {
  files: {
    path: string;
    metadata: Record<string, string>;
    tensors: { name: string; dtype: string; shape: readonly number[]; bytes: number }[];
  }[];
  tensors: number;
  bytes: number;
}

function listFiles(model: SafeTensorsModel): Listing {
  const byPath = new Map<string, TensorSummary[]>();
  for (const path of model.metadata().keys()) byPath.set(path, []);
  const all = model.keys().map((name) => model.info(name));
  for (const tensor of all) byPath.get(tensor.path)!.push(tensor);
  return {
    files: byPath.entries().map(([path, tensors]) => ({
      path,
      metadata: Object.fromEntries(model.metadata().get(path)!),
      tensors: tensors.map(({ name, dtype, shape, byteLength }) => ({
        name,
        dtype,
        shape,
        bytes: byteLength,
      })),
    })).toArray(),
    tensors: all.length,
    bytes: all.reduce((sum, tensor) => sum + tensor.byteLength, 0),
  };
}

function describe({ files, tensors, bytes }: Listing): string {
  const parts = files.map((file) => {
    const pairs = Object.entries(file.metadata).map(([key, value]) => [
      `  ${printable(key)}:`,
      printable(value),
    ]);
    const rows = file.tensors.map(({ name, dtype, shape, bytes }) => [
      `  ${printable(name)}`,
      dtype,
      `[${shape.join(", ")}]`,
      formatBytes(bytes),
    ]);
    return [
      printable(file.path),
      ...pairs.length > 0 ? ["  metadata", ...pairs.map((pair) => `  ${pair.join(" ")}`)] : [],
      ...rows.length > 0 ? [formatTable([["  tensor", "dtype", "shape", "bytes"], ...rows], [3])] : [],
      "",
    ].join("\n");
  });
  const total = `${formatCount(tensors, "tensor")} of ${formatBytes(bytes)} in ${
    formatCount(files.length, "file")
  }`;
  return [...parts, total].join("\n");
}
