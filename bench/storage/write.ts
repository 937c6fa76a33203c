/**
 * Writes the results.
 */
import { drawCharts } from "../vega.ts";
import { sweepCharts } from "./charts.ts";
import { type Report, toCsv } from "./report.ts";

/** Writes CSV, JSON and charts to a folder; no charts if Vega cannot be loaded. */
export async function writeReport(folder: string, report: Report): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  const { samples, summaries } = report;
  await Deno.writeTextFile(`${folder}/samples.csv`, toCsv(samples.map((sample) => ({ ...sample }))));
  await Deno.writeTextFile(`${folder}/summary.csv`, toCsv(summaries.map((summary) => ({ ...summary }))));
  await Deno.writeTextFile(
    `${folder}/report.json`,
    `${JSON.stringify({ ...report, samples: undefined }, null, 2)}\n`,
  );
  try {
    for (const { name, svg } of await drawCharts(sweepCharts(report))) {
      await Deno.writeTextFile(`${folder}/${name}.svg`, svg);
    }
  } catch (error) {
    console.error(`warning: no charts, Vega cannot be loaded: ${(error as Error).message}`);
  }
}
