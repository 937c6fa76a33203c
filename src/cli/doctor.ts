/**
 * `doctor`: reports the abilities of this machine for loading.
 */
import { doctor, type DoctorReport, type StorageReport } from "../doctor/mod.ts";
import { environmentVariable } from "../../ffi/variables.ts";
import { quote } from "../base/text.ts";
import type { Command } from "./command.ts";
import { formatBytes, formatCount, formatTable, printable } from "./text.ts";

/** The command. */
export const doctorCommand: Command = {
  summary: "Report what this machine can do",
  inputs: "[file|dir]…",
  description:
    "Reports which engine loads on this machine, whether files on 3FS are read through its rings, which GPUs can be " +
    "loaded to, and what would make loading faster. For files and folders on the command line it reports how they " +
    "are read.",
  options: {
    json: { kind: "flag", help: "print the report as JSON" },
  },
  notes:
    'Lines such as "error: XDG_RUNTIME_DIR is invalid or not set" come from the Vulkan driver Mesa when WebGPU is ' +
    "asked for an adapter. They are harmless; setting XDG_RUNTIME_DIR to any folder silences them.",
  examples: [
    ["doctor", "this machine"],
    ["doctor ~/models /mnt/data", "and how files in these places can be read"],
  ],

  async run(args) {
    const report = await doctor(args.inputs);
    console.log(args.flag("json") ? JSON.stringify(report, null, 2) : describe(report));
    const failed = report.storage.find(({ problem }) => problem !== "");
    if (failed) throw new Error(`Cannot look at ${quote(failed.path)}: ${failed.problem}`);
  },
};

/** The reason is printed once, below the table. */
const NOT_LOOKED = "unknown: the native library is not used";

/** A reason for a row of the table; the advice below the table has most of them. */
function reasonFor(reason: string, { remedies }: DoctorReport): string {
  return remedies.some((remedy) => remedy.includes(reason)) ? "see below" : reason;
}

function describe(report: DoctorReport): string {
  const isNative = report.engine === "native";
  const engine = isNative
    ? "native: the C library reads in parallel lanes"
    : "portable: Deno's own file functions, slower";
  const kernel = report.machine.kernel === null ? "" : `, kernel ${report.machine.kernel}`;
  const rows = [
    ["System", `${report.system}, ${formatCount(report.cores, "core")}${kernel}`],
    ["Deno", report.deno],
    ["Engine", engine],
    ["Library", report.library ?? "none"],
    ["Available memory", report.availableMemory === null ? "unknown" : formatBytes(report.availableMemory)],
    ["Page cache", report.cachestat ? "known: files that are not cached are read directly" : "not known"],
    ["3FS", isNative ? describeUsrbio(report) : NOT_LOOKED],
    ...report.storage.map((storage) => [storage.path, describeStorage(storage)]),
    ...isNative ? describeCuda(report) : [["GPU", NOT_LOOKED]],
    ["WebGPU", describeWebGpu(report)],
  ];
  const advice = report.remedies.length === 0
    ? ["Nothing to improve."]
    : ["What could be better:", ...report.remedies.map((remedy) => `- ${remedy}`)];
  return [formatTable(rows), "", ...advice].map((line) => printableLines(line)).join("\n");
}

function describeUsrbio(report: DoctorReport): string {
  const { library, reason, mounts } = report.usrbio;
  const mounted = mounts.length === 0 ? "" : `mounted at ${mounts.join(", ")}; `;
  if (library !== null) return `${mounted}read through its rings by ${library}`;
  const isUsual = mounts.length === 0 && environmentVariable("HF3FS_LIB_DIR") === undefined;
  return isUsual
    ? "no library (HF3FS_LIB_DIR names its folder)"
    : `${mounted}no library: ${reasonFor(reason, report)}`;
}

function describeStorage({ fileSystem, direct, usrbio, problem }: StorageReport): string {
  if (problem !== "") return problem;
  const type = fileSystem ?? "unknown file system";
  if (!usrbio) {
    return `${type}, ${direct === null ? "no file to try" : direct ? "direct reads" : "no direct reads"}`;
  }
  const { mountPoint, used, reason } = usrbio;
  const reads = used === null
    ? "no file to try"
    : used
    ? "read through its rings"
    : `ordinary reads: ${reason}`;
  return `${type}, 3FS mounted at ${mountPoint}, ${reads}`;
}

function describeCuda(report: DoctorReport): string[][] {
  const { devices, reason, library, runtimeVersion, driverVersion, gds } = report.cuda;
  if (devices.length === 0) return [["GPU", `none: ${reasonFor(reason, report)}`]];
  return [
    ...devices.map(({ device, name, capability, freeBytes, totalBytes }) => [
      `GPU ${device}`,
      `${name || "unnamed"}, compute capability ${capability}, ${formatBytes(freeBytes)} of ${
        formatBytes(totalBytes)
      } free`,
    ]),
    ["CUDA", `runtime ${runtimeVersion ?? "unknown"}, driver for ${driverVersion ?? "unknown"}, ${library}`],
    ["GPUDirect Storage", `${gds.usable ? "used" : "not used"}: ${gds.state}`],
  ];
}

function describeWebGpu(report: DoctorReport): string {
  const { adapter, reason } = report.webgpu;
  if (!adapter) return `none: ${reasonFor(reason, report)}`;
  const { name, isSoftware, features, maxBufferSize, maxStorageBufferBindingSize } = adapter;
  return [
    `${name}${isSoftware ? " (software)" : ""}`,
    `buffers up to ${formatBytes(maxBufferSize)}`,
    `bindings up to ${formatBytes(maxStorageBufferBindingSize)}`,
    features.includes("shader-f16") ? "shader-f16" : "no shader-f16",
  ].join(", ");
}

/** The compiler's output has several lines. */
function printableLines(text: string): string {
  return text.split("\n").map(printable).join("\n");
}
