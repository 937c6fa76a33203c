/**
 * The part of the documentation about the model's results.
 */
import { formatBytes, formatCount } from "../../src/cli/text.ts";
import { table } from "../report/tables.ts";
import { cellsOf, type ModelReport } from "./report.ts";

/** The title, how to read the figures, and a table. */
export function modelSection(report: ModelReport): string[] {
  const { readRate, copyRate, cases } = report;
  const head = ["", "Time", "Of limit", "Target", "First read", "Allocating", "Pinning", "Copies", "Kernels"];
  const rows = cases.flatMap(({ name, bytes, tensors, loads }) =>
    loads.map((load, index) => [
      `${name}: ${formatBytes(bytes)} in ${formatCount(tensors, "tensor")}, ${
        index === 0 ? "first" : "second"
      } load`,
      ...cellsOf(name, load, index),
    ])
  );
  return [
    "### A model of a GPU, not a measurement",
    `The package's own code on a stand-in for CUDA that takes the time of published hardware: storage ${readRate} GB/s, ` +
    `link ${copyRate} GB/s, of which the lower is the limit; the sources of all figures are in ` +
    "[model.c](../tests/sim/cuda/model.c). It shows whether these engines have work at all times; the package's own " +
    `work on the processor is not in it. Made ${report.made.slice(0, 10)} by \`deno task bench:cuda-model\`.`,
    table(head, rows),
  ];
}
