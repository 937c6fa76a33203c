/**
 * The easy door: open files, get a model.
 */
import { openCatalog, restoreAliases } from "./catalog.ts";
import { type DeviceOption, selectDevice, type TensorOn } from "./device/select.ts";
import { SingleGroup } from "./group/process_group.ts";
import { type Files, resolveInputs } from "./inputs.ts";
import { selectEngine } from "./lanes/select.ts";
import { SafeTensorsModel } from "./model.ts";
import { checkOptions, type OpenOptions } from "./options.ts";

/**
 * Opens safetensors files and starts to load them.
 *
 * Resolves once the headers are read and checked; the tensors stream in meanwhile, and
 * {@linkcode SafeTensorsModel.getTensor} waits for the bytes of one of them only.
 *
 * @param files a file, a list of files, a folder, a `model.safetensors.index.json`, or files by rank
 * @returns the model; close it, or bind it with `await using`
 * @throws {SafeTensorsError} if a header or an index is bad, or files and index disagree
 * @throws {ReadError} if a file cannot be opened or read
 * @throws {OutOfMemoryError} if the tensors do not fit in memory
 *
 * @example Use
 * ```ts
 * import { fastsafeOpen, serialize } from "@x/fastsafetensors";
 * import { assertEquals } from "@std/assert";
 *
 * const path = await Deno.makeTempFile({ suffix: ".safetensors" });
 * await Deno.writeFile(path, serialize({ x: { dtype: "F32", shape: [2], data: new Float32Array([1, 2]) } }));
 *
 * await using model = await fastsafeOpen(path);
 * const x = await model.getTensor("x");
 * assertEquals(x.data, new Float32Array([1, 2]));
 * ```
 */
export async function fastsafeOpen<D extends DeviceOption = "cpu">(
  files: Files,
  options: OpenOptions<D> = {},
): Promise<SafeTensorsModel<TensorOn<D>>> {
  const checked = checkOptions(options, new SingleGroup());
  checked.signal?.throwIfAborted();
  const engine = await selectEngine();
  const device = await selectDevice(checked.device as D, engine, checked);
  const inputs = await resolveInputs(files, checked.group);
  const opened = await openCatalog(engine.source, inputs, checked.signal);
  const catalog = options.restoreAliases ? restoreAliases(opened) : opened;
  try {
    const model = new SafeTensorsModel(catalog, device, checked, engine.notes);
    await model.start();
    return model;
  } catch (error) {
    for (const file of catalog.files) file.close();
    throw error;
  }
}
