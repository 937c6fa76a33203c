/**
 * The tables that the documentation shows, in Markdown.
 */
import { formatBytes, formatCount } from "../../src/cli/text.ts";
import { AXES, type Axis } from "../scaling/axes.ts";
import { formatValue, loaderAndLimit, type ScalingReport } from "../scaling/report.ts";
import { formatRatio, type Measurement } from "../side_by_side/report.ts";
import type { Comparison } from "./comparisons.ts";

/** Date and machine of a measurement. */
export function describeSource({ made, machine, turns }: Measurement): string {
  const memory = formatBytes(Number(machine["memory"]));
  const cores = formatCount(Number(machine["cores"]), "core");
  const system = `Linux ${/^\d+\.\d+/.exec(String(machine["kernel"]))?.[0] ?? machine["kernel"]}`;
  return `${made.slice(0, 10)}, ${
    machine["processor"]
  }, ${cores}, ${memory} of memory, ${system}; medians of ${formatCount(turns, "turn")}`;
}

/** One row for each contender, GB/s and ratio for each panel. */
export function comparisonTable({ panels, ratio }: Comparison): string {
  const names = [...new Set(panels.flatMap(({ entries }) => entries.map(({ name }) => name)))];
  const rows = names.map((name) => {
    const entries = panels.map((panel) => panel.entries.find((entry) => entry.name === name));
    const label = entries.some((entry) => entry?.isOurs) ? `**${name}**` : name;
    return [
      label,
      ...entries.flatMap((entry) => [
        rate(entry?.gigabytesPerSecond),
        formatRatio(entry?.ratio, entry?.spread),
      ]),
    ];
  });
  if (panels.some(({ limit }) => limit !== null)) {
    rows.unshift(["the machine's limit", ...panels.flatMap(({ limit }) => [rate(limit), rate(limit && 1)])]);
  }
  return table(["", ...panels.flatMap(({ title }) => [`${title}: GB/s`, ratio])], rows);
}

/** The words beside the value of a point. */
const LABELS: Readonly<Record<Axis, (value: string, count: number) => string>> = {
  bytes: (value) => value,
  tensors: (value) => `${value} tensors`,
  threads: (value, count) => `${value} ${count === 1 ? "lane" : "lanes"}`,
  cast: (value) => `${value}, BF16 cast to F32`,
  columns: (value) => `1/${value} of the columns`,
};

/** One row for each point. */
export function scalingTable({ axes }: ScalingReport): string {
  const rows = AXES.flatMap((axis) =>
    (axes[axis] ?? []).map((point) => {
      const { loader, limit } = loaderAndLimit(point);
      return [
        LABELS[axis](formatValue(axis, point.value), point.value),
        rate(loader.gigabytesPerSecond),
        rate(limit.gigabytesPerSecond),
        formatRatio(loader.ofLimit, loader.spread),
      ];
    })
  );
  return table(["", "this loader: GB/s", "limit: GB/s", "of limit"], rows);
}

function rate(value: number | null | undefined): string {
  return value?.toFixed(2) ?? "";
}

/**
 * A table in Markdown.
 *
 * @param left the columns that are aligned to the left; the others are to the right
 */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  left: readonly number[] = [0],
): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map((_, index) => left.includes(index) ? "---" : "--:")), ...rows.map(line)]
    .join(
      "\n",
    );
}
