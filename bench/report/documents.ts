/**
 * Files of the repository made from the results, to be written or to be compared with the existing files.
 */
import { sweepCharts } from "../storage/charts.ts";
import { modelCharts } from "../cuda_model/charts.ts";
import { drawCharts } from "../vega.ts";
import { comparisonCharts, scalingCharts } from "./charts.ts";
import { CHARTS, makeBlocks, replaceBlock } from "./pages.ts";
import { readResults } from "./results.ts";

/** Path below the repository → content. */
export type Documents = ReadonlyMap<string, string>;

const RESULTS = "bench/results";

/** The pages, with the figures of the results. Needs no network. */
export async function makePages(root: string): Promise<Documents> {
  const pages = new Map<string, string>();
  for (const [path, block] of await makeBlocks(await readResults(root + RESULTS))) {
    pages.set(path, replaceBlock(await Deno.readTextFile(root + path), block));
  }
  return pages;
}

/**
 * The charts.
 *
 * @throws {TypeError} if Vega, which draws them, cannot be loaded
 */
export async function makeCharts(root: string): Promise<Documents> {
  const { comparisons, scaling, cudaModel, sweeps } = await readResults(root + RESULTS);
  const charts = await drawCharts([
    ...comparisons.flatMap(comparisonCharts),
    ...scaling ? scalingCharts(scaling) : [],
    ...cudaModel ? modelCharts(cudaModel) : [],
  ]);
  const documents = new Map(charts.map(({ name, svg }) => [`${CHARTS}/${name}.svg`, svg]));
  for (const [folder, sweep] of sweeps) {
    for (const { name, svg } of await drawCharts(sweepCharts(sweep))) {
      documents.set(`${RESULTS}/${folder}/${name}.svg`, svg);
    }
  }
  return documents;
}

/** The paths of the files that differ or are missing. */
export async function differences(root: string, documents: Documents): Promise<string[]> {
  const differing: string[] = [];
  for (const [path, content] of documents) {
    const found = await Deno.readTextFile(root + path).catch((error) => {
      if (error instanceof Deno.errors.NotFound) return null;
      throw error;
    });
    if (found !== content) differing.push(path);
  }
  return differing;
}
