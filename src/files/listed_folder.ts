/**
 * Chooses the files of the model in a folder whose files are listed: a local one, or one on a server.
 */
import { SafeTensorsError } from "../base/errors.ts";
import { basename } from "../base/paths.ts";
import { quote } from "../base/text.ts";
import type { Found } from "./inputs.ts";
import {
  chooseModel,
  filesOf,
  isUsual,
  isWhole,
  listOf,
  type ModelFiles,
  modelsIn,
  namesOf,
  type Naming,
} from "./model_folder.ts";
import { noModel } from "./no_model.ts";

/** A folder and the files in it. */
export interface Folder {
  /** Its path, for messages. */
  readonly path: string;
  /** The names of the files in it, without those in folders below. */
  readonly names: readonly string[];
  /** Returns the path of a file by its name. */
  pathOf(name: string): string;
  /** Reads an index in the folder. */
  readIndex(name: string): Promise<Found>;
  /** Whether a path that an index names exists. */
  isThere(path: string): Promise<boolean>;
}

/**
 * Chooses the files of the model in a folder; null if it has none.
 *
 * @throws {SafeTensorsError} if there are several models, shards are missing, or an index is not valid
 */
export async function chooseInFolder(folder: Folder, naming: Naming): Promise<Found | null> {
  const content = modelsIn(folder.names, naming);
  const notes: string[] = [];
  let models = await withIndexes(folder, content.models, naming);
  for (let model; (model = chooseModel(folder.path, models, naming));) {
    const found = await filesOfModel(folder, model);
    const others = models.filter((other) => isWhole(other));
    if (!found.index || others.length === 0 || !await isStale(found, folder.isThere)) {
      const all = [...content.leftOut, ...content.models.flatMap(namesOf)];
      return { ...found, notes: [...notes, ...leftOutNote(folder, found, all)] };
    }
    notes.push(staleNote(found));
    delete model.index;
    models = others;
  }
  return null;
}

/** A folder on a server: a list has all files in it and below. */
export interface Listing extends Omit<Folder, "isThere"> {
  /** The names of the files in folders below, such as `onnx/model.onnx`. */
  readonly below: readonly string[];
}

/**
 * Chooses the files of the model in a folder on a server.
 *
 * @throws {SafeTensorsError} as {@linkcode chooseInFolder}, and "NoTensorFiles"
 */
export async function resolveListing(listing: Listing, naming: Naming): Promise<Found> {
  const { path, names, below, pathOf } = listing;
  const there = new Set([...names, ...below].map(pathOf));
  const found = await chooseInFolder(
    { ...listing, isThere: (path) => Promise.resolve(there.has(path)) },
    naming,
  );
  if (found) return found;
  throw await noModel(path, names, modelsIn(names, naming).leftOut, naming, () => {
    const folders = Map.groupBy(below, (name) => name.slice(0, name.indexOf("/")));
    const withModels = [...folders].filter(([folder, files]) => {
      const inside = files.map((name) => name.slice(folder.length + 1)).filter((name) => !name.includes("/"));
      return modelsIn(inside, naming).models.length > 0;
    });
    return Promise.resolve(withModels.map(([folder]) => folder).sort());
  });
}

/** Assigns an index with another name to the model with a usual name whose files it lists. */
async function withIndexes(
  { path, pathOf, readIndex }: Folder,
  models: readonly ModelFiles[],
  naming: Naming,
): Promise<ModelFiles[]> {
  const given = new Set<ModelFiles>();
  let left = models;
  for (const model of models) {
    const { index } = model;
    if (index === undefined || namesOf(model).length > 0 || isUsual(model, naming)) continue;
    const { paths } = await readIndex(index);
    const lists = (name: string) => paths.includes(pathOf(name));
    const owner = models.find((other) => isUsual(other, naming) && namesOf(other).some(lists));
    if (!owner || (owner.index !== undefined && !given.has(owner))) continue;
    if (given.has(owner)) {
      const message = `Cannot choose an index in ${quote(path)}: there are ${quote(owner.index!)}, ${
        quote(index)
      }`;
      throw new SafeTensorsError("SeveralModels", message, { path, advice: "open one of them" });
    }
    owner.index = index;
    given.add(owner);
    left = left.filter((other) => other !== model);
  }
  return [...left];
}

async function filesOfModel({ path, pathOf, readIndex }: Folder, model: ModelFiles): Promise<Found> {
  if (model.index !== undefined) return await readIndex(model.index);
  return { paths: filesOf(path, model).map(pathOf), notes: [] };
}

/** Makes a note on the files of this kind in a folder that are not opened. */
function leftOutNote({ path, pathOf }: Folder, { paths, index }: Found, names: readonly string[]): string[] {
  const opened = new Set(paths);
  const left = names.filter((name) => !opened.has(pathOf(name))).sort();
  if (left.length === 0) return [];
  const what = index ? quote(basename(index.path)) : listOf(paths.map((path) => quote(basename(path))), 2);
  return [`Of the folder ${quote(path)} ${what} was opened; left out: ${listOf(left.map(quote))}`];
}

/** Whether none of the files that an index lists exists. */
export async function isStale({ paths }: Found, isThere: Folder["isThere"]): Promise<boolean> {
  for (const path of paths) if (await isThere(path)) return false;
  return true;
}

/** Makes a note on an index that was not used. */
export function staleNote({ index, paths }: Found): string {
  return `The index ${
    quote(index!.path)
  } was not used: of the ${paths.length} files that it names none is there`;
}
