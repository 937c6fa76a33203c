/**
 * A contender: this loader. `this_loader.ts <options as JSON> FILE…`
 */
import { fastsafeOpen } from "../../mod.ts";
import { selectEngine } from "../../src/load/native/select.ts";
import { measure } from "./contender.ts";

const [options, ...files] = Deno.args;

await measure(async (device) => {
  await selectEngine();
  return async () => {
    const model = await fastsafeOpen<GPUDevice>(files, { device, ...JSON.parse(options!) });
    await model.whenLoaded();
    const buffers = new Set<GPUBuffer>();
    for await (const [, tensor] of model) buffers.add(tensor.buffer);
    return [...buffers];
  };
});
