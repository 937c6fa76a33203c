/**
 * Two loads of the same files in one process, on the modelled hardware: `load.ts <options as JSON> FILE…` prints their
 * starts and ends in nanoseconds of the model, as JSON.
 */
import { releasesDone } from "../../ffi/cuda_release.ts";
import { openLibrary } from "../../ffi/library.ts";
import { fastsafeOpen, type OpenOptions } from "../../mod.ts";
import { doctor } from "../../src/doctor/mod.ts";

const model = Deno.dlopen(Deno.env.get("FASTSAFETENSORS_CUDART_LIB")!, {
  fst_sim_model_now: { parameters: [], result: "u64" },
});
const [options, ...files] = Deno.args;
await doctor(); // opens the libraries, and makes a context
const loads: { start: number; end: number }[] = [];
for (let turn = 0; turn < 2; turn++) {
  const start = Number(model.symbols.fst_sim_model_now());
  const loaded = await fastsafeOpen(files, JSON.parse(options!) as OpenOptions<"cuda">);
  await loaded.whenLoaded();
  loads.push({ start, end: Number(model.symbols.fst_sim_model_now()) });
  await loaded.close();
  await releasesDone((await openLibrary()).shim!); // the next load does not wait for the release of this one's memory
}
console.log(JSON.stringify(loads));
