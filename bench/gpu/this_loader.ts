/**
 * A contender: this loader, to a GPU. `this_loader.ts <options as JSON> FILE…` prints a {@linkcode GpuSample}.
 *
 * The native library is opened, and the device woken, before the clock starts: torch is imported, and has its context,
 * before that of the peers does.
 */
import { fastsafeOpen, type OpenOptions } from "../../mod.ts";
import { doctor } from "../../src/doctor/mod.ts";
import { peakMemory, type Sample, StallWatch, touchMemory } from "../side_by_side/sample.ts";

/** One run, and what matters on a GPU. */
export interface GpuSample extends Sample {
  /** Seconds to the first tensor. */
  readonly firstTensor: number;
}

const [options, ...files] = Deno.args;
await doctor();

const before = peakMemory();
touchMemory();
const watch = new StallWatch();
const start = performance.now();
const model = await fastsafeOpen(files, JSON.parse(options!) as OpenOptions<"cuda">);
let firstTensor = 0;
for await (const [, tensor] of model) {
  firstTensor = (performance.now() - start) / 1000;
  tensor[Symbol.dispose]();
  break;
}
await model.whenLoaded();
const seconds = (performance.now() - start) / 1000;
const stall = watch.stop();
const beyondDestination = peakMemory() - before;
const { path, threads } = model.stats();
await model.close();
const sample: GpuSample = { seconds, firstTensor, beyondDestination, stall, path, threads };
console.log(JSON.stringify(sample));
