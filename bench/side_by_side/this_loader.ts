/**
 * A contender: this loader. `this_loader.ts <options as JSON> FILE…` prints a {@linkcode Sample}.
 *
 * The native library is opened before the clock starts, since the imports of the Python contenders open their libraries
 * before their clocks start.
 */
import { fastsafeOpen, prepare } from "../../mod.ts";
import { peakMemory, type Sample, StallWatch, touchMemory } from "./sample.ts";

const [options, ...files] = Deno.args;
await prepare();

touchMemory();
const watch = new StallWatch();
const start = performance.now();
const model = await fastsafeOpen(files, JSON.parse(options!));
await model.whenLoaded();
const seconds = (performance.now() - start) / 1000;
const stall = watch.stop();

const beyond = peakMemory();
let destination = 0;
for await (const [, tensor] of model) destination += tensor.byteLength;
const { path, threads } = model.stats();
await model.close();
const sample: Sample = { seconds, beyondDestination: beyond - destination, stall, path, threads };
console.log(JSON.stringify(sample));
