/**
 * Charts for the documentation, each for light and for dark backgrounds.
 */
import { formatBytes } from "../../src/cli/text.ts";
import { type Axis, READ_AXES } from "../scaling/axes.ts";
import { formatValue, loaderAndLimit, type Point, type ScalingReport } from "../scaling/report.ts";
import { CATEGORIES, type ChartSpec, FONT } from "../vega.ts";
import type { Comparison, Panel } from "./comparisons.ts";
import { describeSource } from "./tables.ts";

/** The colours of a chart. */
export interface Theme {
  /** The end of the file's name, after the name of the chart. */
  readonly suffix: string;
  readonly background: string;
  readonly text: string;
  readonly faint: string;
  readonly grid: string;
  readonly ours: string;
  readonly others: string;
  readonly limit: string;
}

export const THEMES: readonly Theme[] = [
  {
    suffix: "",
    background: "#ffffff",
    text: "#1f2328",
    faint: "#59636e",
    grid: "#e6e6e6",
    ours: CATEGORIES[0],
    others: "#b6bec6",
    limit: CATEGORIES[1],
  },
  {
    suffix: "_dark",
    background: "#0d1117",
    text: "#f0f6fc",
    faint: "#9198a1",
    grid: "#2a313a",
    ours: "#4fb3d4",
    others: "#4a535e",
    limit: "#f0964f",
  },
];

/** Of the bars, in pixels. */
const PANEL_WIDTH = 420;

/** Bars against the line of the limit. */
export function comparisonCharts(comparison: Comparison): ChartSpec[] {
  return THEMES.map((theme) => ({
    name: comparison.name + theme.suffix,
    spec: {
      ...page(theme, comparison.title, describeSource(comparison.source)),
      vconcat: comparison.panels.map((panel) => bars(panel, theme)),
    },
  }));
}

function bars({ title, limit, entries }: Panel, theme: Theme): object {
  const most = Math.max(limit ?? 0, ...entries.map(({ gigabytesPerSecond }) => gigabytesPerSecond));
  const x = {
    field: "rate",
    type: "quantitative",
    title: "GB/s",
    scale: { domain: [0, most * 1.04], nice: false },
  };
  const y = {
    field: "name",
    type: "nominal",
    title: null,
    sort: null,
    axis: { grid: false, ticks: false, domain: false, labelLimit: 0, labelPadding: 8 },
  };
  const values = entries.map(({ name, isOurs, gigabytesPerSecond }) => ({
    name: name.replace(/, torch [^)]*/, ""), // the table names it
    by: isOurs ? "ours" : "others",
    rate: gigabytesPerSecond,
    label: gigabytesPerSecond.toFixed(2),
  }));
  const color = {
    field: "by",
    type: "nominal",
    legend: null,
    scale: { domain: ["ours", "others"], range: [theme.ours, theme.others] },
  };
  const at = { datum: limit };
  const data = { values: [{}] }; // one row, not one for each bar
  const line = limit === null ? [] : [
    {
      data,
      mark: { type: "rule", color: theme.limit, strokeWidth: 2, strokeDash: [6, 4] },
      encoding: { x: at },
    },
    {
      data,
      mark: { type: "text", color: theme.limit, align: "right", baseline: "bottom", dx: 4, dy: -4 },
      encoding: { x: at, y: { value: 0 }, text: { value: `limit of the machine: ${limit.toFixed(2)}` } },
    },
  ];
  return {
    title: { text: title, anchor: "start", frame: "group", fontSize: 13, fontWeight: "normal" },
    data: { values },
    width: PANEL_WIDTH,
    height: { step: 26 },
    layer: [
      { mark: { type: "bar", height: 16 }, encoding: { x, y, color } },
      {
        mark: { type: "text", align: "left", dx: 8, color: theme.text }, // behind the panel: clear of the line
        encoding: { x: { value: PANEL_WIDTH }, y, text: { field: "label" } },
      },
      ...line,
    ],
  };
}

/** The title of an axis: the quantity that varies, and the size. */
function titleOf(axis: Axis, points: readonly Point[]): string {
  const size = formatBytes(points[0]?.bytes ?? 0);
  if (axis === "bytes") return "Bytes of the model";
  return axis === "tensors" ? `Number of tensors, ${size} in all` : `Lanes (maxThreads), ${size}`;
}

/** One panel for each axis of plain reads: this loader below the limit. */
export function scalingCharts(report: ScalingReport): ChartSpec[] {
  return THEMES.map((theme) => ({
    name: `scaling${theme.suffix}`,
    spec: {
      ...page(theme, "Loading to the CPU, in the page cache", describeSource(report)),
      hconcat: READ_AXES.map((axis, index) => curve(report, axis, index === 0, theme)),
      resolve: { scale: { y: "shared" } },
    },
  }));
}

function curve(report: ScalingReport, axis: Axis, isFirst: boolean, theme: Theme): object {
  const series = ["this loader", "limit of the machine"] as const;
  const points = report.axes[axis] ?? [];
  const values = points.flatMap((point) => {
    const { loader, limit } = loaderAndLimit(point);
    const value = formatValue(axis, point.value);
    return [
      { value, series: series[0], rate: loader.gigabytesPerSecond },
      { value, series: series[1], rate: limit.gigabytesPerSecond },
    ];
  });
  const title = titleOf(axis, points);
  const encoding = {
    x: { field: "value", type: "ordinal", sort: null, title, axis: { labelAngle: 0 } },
    y: {
      field: "rate",
      type: "quantitative",
      title: isFirst ? "GB/s" : null,
      scale: { zero: true },
    },
    color: {
      field: "series",
      type: "nominal",
      title: null,
      scale: { domain: series, range: [theme.ours, theme.limit] },
      legend: { orient: "bottom", labelLimit: 0 },
    },
  };
  return {
    data: { values },
    width: 230,
    height: 180,
    layer: [
      { mark: { type: "line", strokeWidth: 2 }, encoding },
      { mark: { type: "point", filled: true, size: 45, opacity: 1 }, encoding },
    ],
  };
}

/** The common part of all charts: title, font, colours. */
export function page(theme: Theme, title: string, subtitle: string): object {
  const axis = { labelColor: theme.text, titleColor: theme.faint, tickColor: theme.grid };
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    background: theme.background,
    padding: 16,
    spacing: 24,
    title: { text: title, subtitle, anchor: "start", offset: 16 },
    config: {
      font: FONT,
      title: {
        color: theme.text,
        fontSize: 16,
        subtitleFontSize: 11,
        subtitleColor: theme.faint,
        subtitlePadding: 4,
      },
      axis: { ...axis, gridColor: theme.grid, domainColor: theme.grid, titleFontWeight: "normal" },
      text: { fontSize: 11 },
      legend: { labelColor: theme.text, labelFontSize: 12 },
      view: { stroke: null },
    },
  };
}
