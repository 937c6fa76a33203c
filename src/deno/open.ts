/**
 * The functions that open safetensors files.
 */
import type { DeviceOption, TensorOn } from "../device/option.ts";
import { handled } from "../base/handled.ts";
import type { Files } from "../files/inputs.ts";
import type { SafeTensorsModel } from "../model/model.ts";
import { workingFolder } from "../files/native/working_folder.ts";
import "./dlpack.ts";
import type { OpenOptions } from "./options.ts";

/**
 * Opens safetensors files and starts to load them.
 *
 * Resolves once the headers are read and checked; the tensors stream in meanwhile, and
 * {@linkcode SafeTensorsModel.getTensor} waits for the bytes of one of them only.
 *
 * Without `lazy` every tensor is read, whether it is asked for or not. With it, as with Python's `safe_open`, only those
 * are that are asked for.
 *
 * Options that are not given may come from the configuration file that `FASTSAFETENSORS_CONFIG` names.
 *
 * @param files a file, a folder, a `model.safetensors.index.json`, a list of these, or files by rank
 * @returns the model; close it, or bind it with `await using`
 * @throws {SafeTensorsError} if a header or an index is bad, or files and index disagree
 * @throws {SafeTensorsError} "InvalidConfig" if the configuration file is not valid
 * @throws {ReadError} if a file cannot be opened or read
 * @throws {OutOfMemoryError} if the tensors do not fit in memory
 * @throws {GroupError} on all ranks of a `group` if any of that happens on one, or they open different files
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
export function fastsafeOpen<D extends DeviceOption = "cpu">(
  files: Files,
  options: OpenOptions<D> = {},
): Promise<SafeTensorsModel<TensorOn<D>>> {
  return handled(open(files, options, "fastsafeOpen()"));
}

/**
 * {@linkcode fastsafeOpen} as fastsafetensors' AutoLoader: options that are not given come from
 * `fastsafetensors.json` in the working folder, if there is one and `FASTSAFETENSORS_CONFIG` names no other file.
 *
 * @throws as {@linkcode fastsafeOpen}
 */
export function autoOpen<D extends DeviceOption = "cpu">(
  files: Files,
  options: OpenOptions<D> = {},
): Promise<SafeTensorsModel<TensorOn<D>>> {
  return handled(open(files, options, "autoOpen()", "fastsafetensors.json"));
}

/** Imports what opens files when it is first asked for: a program that has bytes in memory needs nothing of it. */
async function open<D extends DeviceOption>(
  files: Files,
  options: OpenOptions<D>,
  call: string,
  configuration?: string,
): Promise<SafeTensorsModel<TensorOn<D>>> {
  const folder = workingFolder(); // before anything is awaited
  const [{ openModel }, { equip }] = await Promise.all([import("./open_model.ts"), import("./equip.ts")]);
  const defaults = configuration === undefined ? {} : { configuration };
  return await openModel(files, options, { call, equip: equip<D>, folder, ...defaults });
}
