/** Loads a file to WebGPU and prints the most resident memory before the load, and until its end. */
import { peakMemory } from "../../bench/side_by_side/sample.ts";
import { fastsafeOpen } from "../../mod.ts";
import { requestGpuDevice } from "../../src/device/webgpu/adapter.ts";
import { selectEngine } from "../../src/load/native/select.ts";

const device = await requestGpuDevice();
await selectEngine();
const before = peakMemory();
await using model = await fastsafeOpen(Deno.args[0]!, { device });
await model.whenLoaded();
console.log(JSON.stringify({ isSoftware: device.adapterInfo.isFallbackAdapter, before, peak: peakMemory() }));
