/**
 * The function that saves tensors. It imports what saves them when it is called: programs that only load need none of it.
 */
import { handled } from "../base/handled.ts";
import type { PathLike } from "../files/inputs.ts";
import { workingFolder } from "../files/native/working_folder.ts";
import type { SaveOptions, SaveReport } from "./options.ts";
import type { SaveInput } from "./source.ts";

/**
 * Saves tensors in the safetensors format.
 *
 * Tensors that are the same memory are written once; the metadata then has `name → kept name` for the others. The
 * files appear under their names only when all of them are complete: if anything fails before, what was there is
 * untouched, and nothing is left behind. If the process is killed, the next save to the folder removes what it has
 * left; if that was while a set of several files got their names, the next save over it does the rest, or the command
 * `repair`, and until then it is not opened.
 *
 * A folder that is not there is made. A link is followed: the file behind it is replaced. What is there and is no regular
 * file, such as a device, is refused.
 *
 * The memory of the tensors must stay as it is until the save is over. Handles that a model gives out on the way are
 * disposed of; those that you give are yours.
 *
 * @param tensors a record, a map or pairs of name and tensor; a model, or a stream of pairs with the option `shapes`,
 *   is written as it comes, and may be larger than memory. The names of a record are listed at once, which holds the
 *   event loop for some 30 ms per 100,000 names: a map does not
 * @param path the file; with several shards, what their names are made from
 * @throws {SafeTensorsError} "FileExists"; "InterruptedSave" if an interrupted save has left something there and
 *   `overwrite` is not given; "InvalidTensorView" if data and shape do not fit; "DuplicateName"; what
 *   else the format refuses
 * @throws {TypeError} if something is not a tensor, its typed array is not that of its dtype, or an option is unknown
 * @throws {WriteError} if the system refuses, such as without space, or the target is not a regular file
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
 */
export function saveFile(
  tensors: SaveInput,
  path: PathLike,
  options: SaveOptions = {},
): Promise<SaveReport> {
  return handled(start(tensors, path, options));
}

async function start(tensors: SaveInput, path: PathLike, options: SaveOptions): Promise<SaveReport> {
  const startedAt = performance.now();
  const folder = workingFolder(); // before anything is awaited
  const { save } = await import("./save.ts");
  return await save(tensors, path, options, { startedAt, folder });
}
