/**
 * The functions that open and load safetensors files.
 */
import type { DeviceOption } from "../base/device_name.ts";
import type { FloatDType } from "../base/dtype.ts";
import type { LoadedTensor } from "../device/tensors.ts";
import { handled } from "../base/handled.ts";
import type { Files } from "../files/inputs.ts";
import type { Tensor } from "../load/tensor.ts";
import type { SafeTensorsModel } from "../model/model.ts";
import { workingFolder } from "../files/native/working_folder.ts";
import "./tensors.ts";
import type { OpenOptions } from "./options.ts";

/**
 * Opens safetensors files and starts to load them.
 *
 * Resolves after the headers are read and checked. The tensors load in the background;
 * {@linkcode SafeTensorsModel.getTensor} waits only for the bytes of its tensor.
 *
 * Without `lazy` every tensor is read. With `lazy`, as with Python's `safe_open`, only requested tensors are read.
 *
 * The configuration file that `FASTSAFETENSORS_CONFIG` names can set options that the call leaves out.
 *
 * @param files a file, a folder, a `model.safetensors.index.json`, a URL (`https://…`, `hf://org/name`, `s3://…`), a list of
 *   these, or files by rank
 * @returns the model; close it, or declare it with `await using`
 * @throws {SafeTensorsError} if a header or an index is not valid, or the files do not match the index
 * @throws {SafeTensorsError} "InvalidConfig" if the configuration file is not valid
 * @throws {ReadError} if a file cannot be opened or read; a {@linkcode RemoteError} for a file on a server
 * @throws {OutOfMemoryError} if the tensors do not fit in memory
 * @throws {GroupError} on all ranks of a `group` if one rank fails, or the ranks open different files
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
export function fastsafeOpen<D extends DeviceOption = "cpu", T extends FloatDType = FloatDType>(
  files: Files,
  options: OpenOptions<D, T> = {},
): Promise<SafeTensorsModel<LoadedTensor<D, T>>> {
  return handled(open(files, options, "fastsafeOpen()"));
}

/**
 * {@linkcode fastsafeOpen} with the configuration of fastsafetensors' AutoLoader: `fastsafetensors.json` in the working
 * folder, if it exists and `FASTSAFETENSORS_CONFIG` is not set, sets options that the call leaves out.
 *
 * @throws as {@linkcode fastsafeOpen}
 */
export function autoOpen<D extends DeviceOption = "cpu", T extends FloatDType = FloatDType>(
  files: Files,
  options: OpenOptions<D, T> = {},
): Promise<SafeTensorsModel<LoadedTensor<D, T>>> {
  return handled(open(files, options, "autoOpen()", "fastsafetensors.json"));
}

/**
 * Loads all tensors of files, or those that the option `names` selects, and closes the files: the twin of
 * {@linkcode saveFile}.
 *
 * @returns name → tensor, in file order
 * @throws as {@linkcode fastsafeOpen} and {@linkcode SafeTensorsModel.getTensor}
 *
 * @example Use
 * ```ts
 * import { loadFile, saveFile } from "@x/fastsafetensors";
 * import { assertEquals } from "@std/assert";
 *
 * const path = await Deno.makeTempFile({ suffix: ".safetensors" });
 * const data = new Uint16Array([0x3f80, 0x4000]);
 * await saveFile({ x: { dtype: "BF16", shape: [2], data } }, path, { overwrite: true });
 *
 * const { x } = await loadFile(path, { dtype: "F32" });
 * assertEquals(x?.as("F32").data, new Float32Array([1, 2]));
 * ```
 */
export function loadFile<D extends DeviceOption = "cpu", T extends FloatDType = FloatDType>(
  files: Files,
  options: OpenOptions<D, T> = {},
): Promise<Record<string, LoadedTensor<D, T>>> {
  return handled(load(files, options));
}

/** Imports the modules that open files at the first call: a program that only deserializes does not load them. */
async function open<D extends DeviceOption, T extends FloatDType>(
  files: Files,
  options: OpenOptions<D, T>,
  call: string,
  configuration?: string,
): Promise<SafeTensorsModel<LoadedTensor<D, T>>> {
  const folder = workingFolder(); // before the first await: the program can change the folder
  const [{ openModel }, { selectSourceAndDevice }] = await Promise.all([
    import("./open_model.ts"),
    import("./select_source_and_device.ts"),
  ]);
  const defaults = configuration === undefined ? {} : { configuration };
  const model = await openModel(files, options, {
    call,
    select: selectSourceAndDevice<D>,
    folder,
    ...defaults,
  });
  return model as SafeTensorsModel<Tensor> as SafeTensorsModel<LoadedTensor<D, T>>; // the option dtype casts to T
}

async function load<D extends DeviceOption, T extends FloatDType>(
  files: Files,
  options: OpenOptions<D, T>,
): Promise<Record<string, LoadedTensor<D, T>>> {
  await using model = await fastsafeOpen(files, options);
  const [{ recordSteps }, { finishInTurns }] = await Promise.all([
    import("../model/selection.ts"),
    import("../base/turn.ts"),
  ]);
  const landed = new Map<string, LoadedTensor<D, T>>();
  try {
    for await (const [name, tensor] of model) landed.set(name, tensor);
  } catch (error) {
    for (const tensor of landed.values()) tensor[Symbol.dispose]();
    throw error;
  }
  return await finishInTurns(recordSteps(model.keys().map((name) => [name, landed.get(name)!] as const)));
}
