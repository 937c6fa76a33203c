/**
 * The picture of a model's timeline, for light and for dark backgrounds.
 */
import { page, type Theme, THEMES } from "../report/charts.ts";
import { CATEGORIES, type ChartSpec } from "../vega.ts";
import type { Bar, ModelReport } from "./report.ts";

/** Kinds of work, in the order of the legend. */
const KINDS: readonly Bar["kind"][] = ["allocate", "pin", "read", "copy", "cast"];

/** A panel for each load of the first case with a picture. */
export function modelCharts(report: ModelReport): ChartSpec[] {
  const drawn = report.cases.find(({ bars }) => bars);
  if (!drawn) return [];
  const loads = drawn.bars!;
  const end = Math.max(...loads.flat().map((bar) => bar.end));
  return THEMES.map((theme) => ({
    name: `cuda_model${theme.suffix}`,
    spec: {
      ...page(
        theme,
        `A model of a GPU: ${drawn.name}`,
        `Storage ${report.readRate} GB/s, link ${report.copyRate} GB/s, as published; a model, not a measurement`,
      ),
      vconcat: loads.map((bars, index) => panel(bars, index, end, theme)),
    },
  }));
}

function panel(bars: readonly Bar[], index: number, end: number, theme: Theme): object {
  const lanes = bars.filter(({ row }) => row.startsWith("lane ")).map(({ row }) => row);
  const numbers = [...new Set(lanes)].toSorted((a, b) => Number(a.slice(5)) - Number(b.slice(5)));
  return {
    title: {
      text: index === 0 ? "First load" : "Second load of the same process",
      anchor: "start",
      frame: "group",
      fontSize: 13,
      fontWeight: "normal",
      color: theme.text,
    },
    data: { values: bars },
    width: 620,
    height: { step: 13 },
    mark: { type: "bar", height: 9 },
    encoding: {
      x: {
        field: "start",
        type: "quantitative",
        title: "milliseconds of the model",
        scale: { domain: [0, end] },
      },
      x2: { field: "end" },
      y: {
        field: "row",
        type: "nominal",
        title: null,
        sort: ["driver", ...numbers, "to the device", "kernels"],
        axis: { grid: false, ticks: false, domain: false, labelFontSize: 9 },
      },
      color: {
        field: "kind",
        type: "nominal",
        title: null,
        scale: { domain: KINDS, range: coloursOf(theme) },
        legend: { orient: "top" },
      },
    },
  };
}

function coloursOf(theme: Theme): string[] {
  return [CATEGORIES[5], CATEGORIES[2], theme.ours, theme.limit, CATEGORIES[3]];
}
