/**
 * From samples to tables, CSV and JSON.
 */
import { formatTable } from "../../src/cli/text.ts";
import { median } from "../side_by_side/report.ts";
import type { Sample } from "./run.ts";
import type { Combination, Target } from "./sweep.ts";

/** The results of a combination. */
export interface Summary extends Combination {
  readonly iterations: number;
  /** GB/s of the turns. */
  readonly median: number;
  readonly least: number;
  readonly most: number;
}

/** Everything that is written as JSON. */
export interface Report {
  readonly made: string;
  /** A note if the results do not describe this machine's storage. */
  readonly label: string;
  readonly machine: Readonly<Record<string, string | number>>;
  /** The 3FS library in use, if any. */
  readonly library: string | null;
  readonly target: Target;
  readonly data: { readonly files: number; readonly bytes: number };
  readonly summaries: readonly Summary[];
  readonly samples: readonly Sample[];
}

/** One summary for each combination, in the order of the samples. */
export function summarize(samples: readonly Sample[]): Summary[] {
  const groups = Map.groupBy(samples, (sample) => JSON.stringify(combinationOf(sample)));
  return groups.values().map((group) => {
    const rates = group.map(({ gigabytesPerSecond }) => gigabytesPerSecond);
    return {
      ...combinationOf(group[0]!),
      iterations: group.length,
      median: median(rates),
      least: Math.min(...rates),
      most: Math.max(...rates),
    };
  }).toArray();
}

function combinationOf({ backend, bufferBytes, chunkBytes, processes, pipelined }: Combination): Combination {
  return { backend, bufferBytes, chunkBytes, processes, pipelined };
}

/** Rows as CSV, the keys of the first one as the head. */
export function toCsv(rows: readonly Readonly<Record<string, unknown>>[]): string {
  const names = Object.keys(rows[0] ?? {});
  const line = (cells: readonly unknown[]) => cells.map((cell) => csvCell(String(cell))).join(",");
  return [line(names), ...rows.map((row) => line(names.map((name) => row[name])))].join("\n") + "\n";
}

function csvCell(text: string): string {
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** The summaries as a table, the best of each backend marked. */
export function formatSummaries(summaries: readonly Summary[]): string {
  const best = new Map<string, Summary>();
  for (const summary of summaries) {
    const leader = best.get(summary.backend);
    if (!leader || summary.median > leader.median) best.set(summary.backend, summary);
  }
  const rows = summaries.map((summary) => [
    summary.backend,
    formatBinary(summary.bufferBytes),
    formatBinary(summary.chunkBytes),
    String(summary.processes),
    summary.pipelined ? "yes" : "no",
    summary.median.toFixed(2),
    `${summary.least.toFixed(2)} to ${summary.most.toFixed(2)}`,
    best.get(summary.backend) === summary ? `best of ${summary.backend}` : "",
  ]);
  const head = ["backend", "buffer", "chunk", "processes", "pipelined", "GB/s", "from to", ""];
  return formatTable([head, ...rows], [1, 2, 3, 5, 6]);
}

/** Bytes in binary units, as buffers are: `64 MiB`. */
export function formatBinary(bytes: number): string {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  let value = bytes, unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number(value.toPrecision(4))} ${units[unit]}`;
}

/** A combination in a few words. */
export function formatCombination(combination: Combination): string {
  const { backend, bufferBytes, chunkBytes, processes, pipelined } = combination;
  const words = [
    backend,
    formatBinary(bufferBytes),
    formatBinary(chunkBytes),
    formatProcesses(processes),
    ...pipelined ? ["pipelined"] : [],
  ];
  return words.join(", ");
}

/** `1 process`, `4 processes`. */
export function formatProcesses(count: number): string {
  return `${count} process${count === 1 ? "" : "es"}`;
}
