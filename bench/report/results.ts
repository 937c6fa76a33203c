/**
 * The source of the documentation's figures: the JSON files in bench/results that exist.
 */
import type { ModelReport } from "../cuda_model/report.ts";
import { dayComparisons } from "../gpu_day/page.ts";
import type { GpuDay } from "../gpu_day/results.ts";
import type { GpuReport } from "../gpu/report.ts";
import type { ScalingReport } from "../scaling/report.ts";
import type { Sweep } from "../storage/charts.ts";
import {
  compareGpu,
  compareLoads,
  compareRanks,
  compareSaves,
  compareWebGpu,
  type Comparison,
} from "./comparisons.ts";

/** All results. */
export interface Results {
  readonly comparisons: readonly Comparison[];
  readonly scaling: ScalingReport | null;
  /** The results of `deno task gpu-day --save`. */
  readonly gpuDay: GpuDay | null;
  /** The results of `bench:cuda-model`. */
  readonly cudaModel: ModelReport | null;
  /** Folder below the one of the results → the sweep of `bench:storage` in it. */
  readonly sweeps: ReadonlyMap<string, Sweep>;
}

/** Reads a folder of results. */
export async function readResults(folder: string): Promise<Results> {
  const ofFile = async <T>(name: string, compare: (report: T) => Comparison) => {
    const report: T | null = await readJson(`${folder}/${name}.json`);
    return report === null ? [] : [compare(report)];
  };
  const gpuDay = await readJson<GpuDay>(`${folder}/gpu_day.json`);
  const ofDay = gpuDay === null ? [] : dayComparisons(gpuDay);
  // A benchmark with more turns takes the place of the day's.
  const gpu = await ofFile<GpuReport>("gpu", compareGpu);
  const sweeps = new Map<string, Sweep>();
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    const sweep = isDirectory ? await readJson<Sweep>(`${folder}/${name}/report.json`) : null;
    if (sweep) sweeps.set(name, sweep);
  }
  return {
    comparisons: [
      ...await ofFile("side_by_side", compareLoads),
      ...await ofFile("save", compareSaves),
      ...await ofFile("ranks", compareRanks),
      ...await ofFile("webgpu", compareWebGpu),
      ...gpu,
      ...ofDay.filter(({ name }) => name !== "gpu" || gpu.length === 0),
    ],
    gpuDay,
    cudaModel: await readJson(`${folder}/cuda_model.json`),
    scaling: await readJson(`${folder}/scaling.json`),
    sweeps,
  };
}

/** The content of a file; null if it does not exist. */
async function readJson<T>(path: string): Promise<T | null> {
  try {
    return JSON.parse(await Deno.readTextFile(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}
