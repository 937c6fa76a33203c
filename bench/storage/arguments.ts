/**
 * The command line of the storage benchmark.
 */
import { type Arguments, parseArguments, UsageError } from "../../src/cli/arguments.ts";
import { BACKENDS } from "../../src/three_fs/backend.ts";
import { type Combination, combinations, type Settings, single, type Target } from "./sweep.ts";

export const USAGE = `Usage: deno task bench:storage [folder] [options]

Reads all safetensors files of a folder with every combination of the settings, each by processes that share the files,
and tells how fast. Without a folder it makes files in a temporary one. Every turn but the first counts; what the page
cache holds it keeps.

  --mode M          grid: every combination (default); single: the first value of each setting; loads: whole loads
                    through 3FS and by ordinary reads, in turns; overlap: pipelined beside not, of the first values
  --backends LIST   usrbio, posix, mock (default: usrbio and posix where 3FS' library is there, else posix)
  --buffers LIST    buffer of each process (default 16MiB,64MiB)
  --chunks LIST     bytes of one request (default 512KiB,2MiB,8MiB)
  --processes LIST  processes that read at once (default 1,2,4)
  --pipelined WORD  yes, no or both: whether one half of the buffer is read to while the other is copied (default both)
  --download-only   leave the bytes in the buffer
  --device D        copy them to a device such as cuda:0 (default: to host memory)
  --iterations N    turns that count (default 3)
  --bytes N         size of the files to make (default 1GiB)
  --output-dir D    write samples.csv, summary.csv, report.json and charts as SVG there
  --label TEXT      what to write over the charts
  --stand-in        rehearse on the stand-in for 3FS of tests/sim/3fs: says nothing about 3FS; with --mode overlap
                    on the one for CUDA too, each at 0.5 GB/s
  --help            print this`;

const MODES = ["grid", "single", "loads", "overlap"] as const;

/** The parsed arguments. */
export function modeOf(args: Arguments): typeof MODES[number] {
  const mode = args.text("mode") ?? "grid";
  const known = MODES.find((name) => name === mode);
  if (known) return known;
  throw new UsageError(`--mode must be grid, single, loads or overlap, got "${mode}"`);
}

/** Parses the command line, and rejects invalid options before any file is created. */
export function readArguments(argv: readonly string[]): Arguments {
  const args = parseArguments(argv, {
    mode: "text",
    backends: "text",
    buffers: "text",
    chunks: "text",
    processes: "text",
    pipelined: "text",
    "download-only": "flag",
    device: "text",
    iterations: "text",
    bytes: "text",
    "output-dir": "text",
    label: "text",
    "stand-in": "flag",
  });
  if (args.flag("help")) return args;
  if (args.inputs.length > 1) throw new UsageError(`One folder at most, got ${args.inputs.length}`);
  runsOf(args, null);
  if (!targetOf(args).startsWith("cuda:") && modeOf(args) === "overlap") {
    throw new UsageError("--mode overlap needs a --device: reads overlap with copies to it");
  }
  return args;
}

/** The values of an option that takes a list with commas. */
function listOf<T>(args: Arguments, name: string, byDefault: string, read: (text: string) => T): T[] {
  return (args.text(name) ?? byDefault).split(",").map((text) => read(text.trim()));
}

/** A number of bytes, as the command line writes it. */
function bytesOf(name: string): (text: string) => number {
  return (text) => parseArguments([`--${name}=${text}`], { [name]: "text" }).bytes(name)!;
}

/** A whole number from 1 on. */
function countOf(name: string): (text: string) => number {
  return (text) => parseArguments([`--${name}=${text}`], { [name]: "text" }).count(name)!;
}

/** Every setting with its values. */
function settingsOf(args: Arguments, backends: string): Settings {
  const pipelined = args.text("pipelined") ?? "both";
  if (!["yes", "no", "both"].includes(pipelined)) {
    throw new UsageError(`--pipelined must be yes, no or both, got "${pipelined}"`);
  }
  return {
    backend: listOf(args, "backends", backends, (text) => {
      const backend = BACKENDS.find((known) => known === text && known !== "auto");
      if (backend === undefined || backend === "auto") throw new UsageError(`There is no backend "${text}"`);
      return backend;
    }),
    bufferBytes: listOf(args, "buffers", "16MiB,64MiB", bytesOf("buffers")),
    chunkBytes: listOf(args, "chunks", "512KiB,2MiB,8MiB", bytesOf("chunks")),
    processes: listOf(args, "processes", "1,2,4", countOf("processes")),
    pipelined: pipelined === "both" ? [false, true] : [pipelined === "yes"],
  };
}

/** The destination of the bytes. */
export function targetOf(args: Arguments): Target {
  const device = args.text("device");
  if (device === undefined) return args.flag("download-only") ? "none" : "host";
  if (args.flag("download-only")) {
    throw new UsageError("--download-only and --device cannot be used together");
  }
  const index = /^cuda(?::(\d+))?$/.exec(device)?.[1] ?? (device === "cuda" ? "0" : undefined);
  if (index === undefined) throw new UsageError(`There is no device "${device}": name one such as cuda:0`);
  return `cuda:${Number(index)}`;
}

/** The backends to run, with or without 3FS' library. */
export function runsOf(args: Arguments, library: string | null): Combination[] {
  const all = settingsOf(args, library === null ? "posix" : "usrbio,posix");
  const runs = combinations(modeOf(args) === "grid" ? all : single(all));
  if (runs.length > 0) return runs;
  throw new UsageError("Every chunk is larger than every buffer, or than its half with pipelining");
}
