/**
 * The page of a GPU day, in Markdown.
 */
import { formatBytes, formatCount } from "../../src/cli/text.ts";
import { compareGpu, compareWebGpu, type Comparison } from "../report/comparisons.ts";
import { comparisonTable, describeSource, table } from "../report/tables.ts";
import { doctorOf, type GpuDay, loadsOf, type StepResult, webGpuLoadsOf } from "./results.ts";

/** The whole page. */
export function dayPage(day: GpuDay): string {
  const failed = day.steps.filter(({ output }) => output !== undefined);
  return [
    "# The GPU day",
    day.isRehearsal
      ? "**A rehearsal on stand-ins for CUDA and NCCL: no figure on this page describes a GPU.**"
      : "",
    daySummary(day),
    stepTable(day),
    ...dayComparisons(day).map((comparison) =>
      `## ${comparison.title}\n\n${comparison.note}\n\n${comparisonTable(comparison)}`
    ),
    ...failed.map(({ title, output }) => `## Output: ${title}\n\n${indented(output!)}`),
  ].filter((part) => part !== "").join("\n\n") + "\n";
}

/** Date, machine and result in one paragraph. */
export function daySummary(day: GpuDay): string {
  const report = doctorOf(day);
  const [gpu] = report?.cuda.devices ?? [];
  const versions = report?.cuda.runtimeVersion
    ? `, CUDA ${report.cuda.runtimeVersion}, driver for CUDA ${report.cuda.driverVersion}`
    : "";
  const device = gpu ? `${gpu.name || "A GPU"}, ${formatBytes(gpu.totalBytes)}${versions}` : "No GPU";
  const passed = day.steps.filter(({ status }) => status === "passed").length;
  const source = describeSource({ ...day, turns: 1 }).replace(/; medians.*/, "");
  return `${device}; ${source}. ${passed} of ${formatCount(day.steps.length, "step")} passed, in ${
    day.seconds.toFixed(0)
  } seconds.`;
}

/** A row for each step. */
export function stepTable({ steps }: GpuDay): string {
  const rows = steps.map((step) => [step.title, step.status, step.seconds.toFixed(1), cell(details(step))]);
  return table(["Step", "Result", "Seconds", "Details"], rows, [0, 1, 3]);
}

/** The figures of the benchmarks. */
export function dayComparisons(day: GpuDay): Comparison[] {
  const loads = loadsOf(day), webGpu = webGpuLoadsOf(day);
  return [
    ...loads ? [compareGpu(loads)] : [],
    ...webGpu ? [{ ...compareWebGpu(webGpu), name: "webgpu_day" }] : [],
  ];
}

function details({ reason, tests, lines = [] }: StepResult): string {
  const counts = tests
    ? [`${tests.passed} passed, ${tests.failed} failed, ${tests.skipped.length} skipped`]
    : [];
  return [...reason === null ? [] : [reason], ...counts, ...lines].join("; ");
}

/** Text in a cell of a table: short, in one line. */
function cell(text: string): string {
  const line = text.replaceAll(/\s+/g, " ").replaceAll("|", "\\|");
  return line.length > 300 ? `${line.slice(0, 299)}…` : line;
}

/** A code block by indentation: output may have fences of its own. */
function indented(text: string): string {
  return text.trimEnd().split("\n").map((line) => `    ${line}`).join("\n");
}
