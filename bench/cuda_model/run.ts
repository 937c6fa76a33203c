/**
 * Runs loads on the model of the stand-in for CUDA, each case in a process of its own.
 */
import type { OpenOptions } from "../../mod.ts";
import { output } from "../side_by_side/tools.ts";
import { type Holes, writeHoles } from "./files.ts";
import { barsOf, evaluateLoad, type ModelCase } from "./report.ts";
import { readTimeline, type Timeline } from "./timeline.ts";

/** A case. */
export interface Case extends Holes {
  readonly name: string;
  readonly options: OpenOptions<"cuda">;
  /** Whether its timeline is drawn. */
  readonly isDrawn: boolean;
}

/** Loads of 10 GB, so that starting and ending weigh little; one of 2 GB for the picture. */
export const CASES: readonly Case[] = [
  { name: "large tensors", files: 4, tensors: 25, tensorBytes: 1e8, options: { gds: "off" }, isDrawn: false },
  {
    name: "small tensors",
    files: 4,
    tensors: 25_000,
    tensorBytes: 1e5,
    options: { gds: "off" },
    isDrawn: false,
  },
  {
    name: "GPUDirect Storage",
    files: 4,
    tensors: 25,
    tensorBytes: 1e8,
    options: { gds: "require" },
    isDrawn: false,
  },
  {
    name: "BF16 cast to F32",
    files: 4,
    tensors: 10,
    tensorBytes: 5e7,
    options: { gds: "off", dtype: "F32" },
    isDrawn: true,
  },
];

/** The lanes of a machine with many cores. */
const LANES = 16;

/**
 * Runs a case in a folder, on stand-ins that are in use (`useStandIns`).
 *
 * @param slower how many times slower than the machine's the time of the model is
 */
export async function runCase(
  folder: string,
  one: Case,
  slower: number,
): Promise<{ result: ModelCase; timeline: Timeline }> {
  const files = await writeHoles(folder, one);
  const trace = `${folder}/timeline.json`;
  Deno.env.set("FST_SIM_MODEL", trace);
  Deno.env.set("FST_SIM_MODEL_SLOWER", `${slower}`);
  const options = JSON.stringify({ device: "cuda", maxThreads: LANES, ...one.options });
  const program = new URL("./load.ts", import.meta.url).pathname;
  const loads: { start: number; end: number }[] = JSON.parse(
    await output(Deno.execPath(), ["run", "-A", program, options, ...files]),
  );
  const timeline = await readTimeline(trace);
  const bytes = one.files * one.tensors * one.tensorBytes;
  const result = {
    name: one.name,
    bytes,
    tensors: one.files * one.tensors,
    loads: loads.map((load) => evaluateLoad(timeline, bytes, load)),
    ...one.isDrawn ? { bars: loads.map((load) => barsOf(timeline, load)) } : {},
  };
  await Deno.remove(folder, { recursive: true });
  return { result, timeline };
}
