/**
 * Charts of a sweep.
 */
import { CATEGORIES, type ChartSpec, FONT } from "../vega.ts";
import { formatBinary, formatProcesses, type Report } from "./report.ts";

/** The part of a report that the charts show. */
export type Sweep = Omit<Report, "samples">;

/** The rate by chunk for each buffer, and the rate by processes. */
export function sweepCharts(report: Sweep): ChartSpec[] {
  return [byChunk(report), byProcesses(report)];
}

const RATE = {
  field: "median",
  type: "quantitative",
  title: "GB/s (median)",
  scale: { zero: true },
} as const;
const BACKEND = { field: "backend", type: "nominal", title: "Backend" } as const;
const COPY = {
  field: "copy",
  type: "nominal",
  title: "Copying",
  scale: { domain: ["pipelined", "in turns"], range: [[1, 0], [5, 4]] },
} as const;
const COPY_ALONE = { field: "copy" } as const;

/** Every summary as a row, its settings as words. */
function rows({ summaries }: Sweep): object[] {
  return summaries.map(({ backend, bufferBytes, chunkBytes, processes, pipelined, median, least, most }) => ({
    backend,
    copy: pipelined ? "pipelined" : "in turns",
    buffer: formatBinary(bufferBytes),
    bufferBytes,
    chunk: formatBinary(chunkBytes),
    chunkBytes,
    processes: formatProcesses(processes),
    count: processes,
    median,
    least,
    most,
  }));
}

function byChunk(report: Sweep): ChartSpec {
  const x = {
    field: "chunk",
    type: "ordinal",
    title: "Request",
    sort: { field: "chunkBytes" },
    axis: { labelAngle: 0 },
  };
  const range = { y: { field: "least", type: "quantitative" }, y2: { field: "most" } };
  return {
    name: "rate_by_chunk",
    spec: {
      ...page(report, "Rate by size of the requests"),
      facet: {
        row: { field: "processes", type: "nominal", title: null, sort: { field: "count" } },
        column: {
          field: "buffer",
          type: "nominal",
          title: "Buffer of each process",
          sort: { field: "bufferBytes" },
        },
      },
      spec: {
        width: 240,
        height: 170,
        layer: [
          ...lines({ x, y: RATE }),
          { mark: { type: "rule", opacity: 0.35 }, encoding: { x, ...range, color: BACKEND } },
        ],
      },
    },
  };
}

/** The best buffer and chunk of each backend for each number of processes. */
function byProcesses(report: Sweep): ChartSpec {
  const x = { field: "count", type: "ordinal", title: "Processes", axis: { labelAngle: 0 } };
  const y = { ...RATE, aggregate: "max" };
  return {
    name: "rate_by_processes",
    spec: { ...page(report, "Best rate by processes"), width: 420, height: 240, layer: lines({ x, y }) },
  };
}

/** Lines and their points, as separate layers: otherwise the legend has no strokes. */
function lines(place: object): object[] {
  return [
    { mark: { type: "line", strokeWidth: 2 }, encoding: { ...place, color: BACKEND, strokeDash: COPY } },
    {
      mark: { type: "point", filled: true, size: 40, opacity: 1 },
      encoding: { ...place, color: BACKEND, detail: COPY_ALONE },
    },
  ];
}

/** The common part of all charts: data, title, fonts, colours. */
function page(report: Sweep, title: string): object {
  const { target, label, data, machine } = report;
  const way = target === "none" ? "download only" : target === "host" ? "to host memory" : `to ${target}`;
  const about = [
    ...label.split("\n").filter((line) => line !== ""),
    `${(data.bytes / 1e9).toFixed(2)} GB in ${data.files} files, ${way}`,
    `${machine["processor"]}, ${machine["cores"]} cores`,
  ];
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    background: "white",
    padding: 16,
    title: { text: title, subtitle: about, anchor: "start", offset: 12 },
    data: { values: rows(report) },
    config: {
      font: FONT,
      title: { fontSize: 16, subtitleFontSize: 12, subtitleColor: "#555", subtitlePadding: 4 },
      axis: { labelFontSize: 11, titleFontSize: 11, titleFontWeight: "normal", gridColor: "#e6e6e6" },
      header: { labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" },
      legend: { labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", orient: "right" },
      range: { category: CATEGORIES },
      view: { stroke: "#d0d0d0" },
    },
  };
}
