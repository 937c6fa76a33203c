/**
 * The function that saves tensors. It imports the other files at the first call, because programs that only load
 * do not need them.
 */
import { handled } from "../base/handled.ts";
import type { PathLike } from "../files/inputs.ts";
import { workingFolder } from "../files/native/working_folder.ts";
import type { SaveOptions, SaveReport } from "./options.ts";
import type { SavableTensor, SaveInput } from "./source.ts";

/**
 * Saves tensors in the safetensors format.
 *
 * Tensors that are the same memory are written once; the metadata then has `name → written name` for the others.
 * The files get their names only when all of them are complete: if an error happens before, existing files do not
 * change, and temporary files are removed. If the process is killed, the next save to the folder removes its
 * temporary files; if it is killed while a set of several files gets its names, the next save over the set, or the
 * command `repair`, finishes the work, and until then the set cannot be opened.
 *
 * A missing folder is created. A link is followed: the file that it points to is replaced. A target that is not a
 * regular file, such as a device, is refused.
 *
 * The memory of the tensors must not change until the save has ended. Handles that a model yields are disposed;
 * the caller disposes the handles that it passes.
 *
 * @param tensors a record, a map or pairs of name and tensor; a model, or a stream of pairs with the option
 *   `shapes` or `map`, is written while it streams, and may be larger than memory. Listing the names of a record blocks the
 *   event loop for about 30 ms per 100,000 names; a map does not
 * @param path the file; the names of several shards are made from it
 * @throws {SafeTensorsError} "FileExists"; "InterruptedSave" if an interrupted save left files there and
 *   `overwrite` is not given; "InvalidTensorView" if data and shape do not fit; "DuplicateName"; and
 *   other errors of the format
 * @throws {TypeError} if something is not a tensor, its typed array is not that of its dtype, or an option is
 *   unknown
 * @throws {WriteError} if the system refuses, for example because of missing space, or the target is not a regular
 *   file
 *
 * @example Use
 * ```ts
 * import { fastsafeOpen, saveFile } from "@x/fastsafetensors";
 * import { assertEquals } from "@std/assert";
 *
 * const folder = await Deno.makeTempDir();
 * await saveFile({ x: { dtype: "F32", shape: [2], data: new Float32Array([1, 2]) } }, `${folder}/x.safetensors`);
 *
 * await using model = await fastsafeOpen(folder);
 * assertEquals((await model.getTensor("x")).data, new Float32Array([1, 2]));
 * ```
 *
 * @example Change tensors while they are saved
 * ```ts
 * import { HostTensor, saveFile } from "@x/fastsafetensors";
 *
 * const folder = await Deno.makeTempDir();
 * const x = HostTensor.from({ shape: [2], data: new Float32Array([1, 2]) });
 * await saveFile({ x, unused: await x.copy() }, `${folder}/x.safetensors`, {
 *   map: (name, tensor) => name === "unused" ? null : tensor.to({ dtype: "F16" }),
 * });
 * ```
 */
export function saveFile<T extends SavableTensor>(
  tensors: SaveInput<T>,
  path: PathLike,
  options: SaveOptions<T> = {},
): Promise<SaveReport> {
  return handled(start(tensors, path, options as SaveOptions));
}

async function start(tensors: SaveInput, path: PathLike, options: SaveOptions): Promise<SaveReport> {
  const startedAt = performance.now();
  const folder = workingFolder(); // before the first await
  const { save } = await import("./save.ts");
  return await save(tensors, path, options, { startedAt, folder });
}
