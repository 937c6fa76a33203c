/**
 * Resolves one local path of a file, a folder or an index to the files of the model.
 */
import { ReadError, SafeTensorsError } from "../../base/errors.ts";
import { quote } from "../../base/text.ts";
import type { FileNames, Found, Index } from "../inputs.ts";
import { chooseInFolder, isStale, staleNote } from "../listed_folder.ts";
import { filesOf, isWhole, listOf, modelsIn, type Naming, SAFETENSORS } from "../model_folder.ts";
import { noModel } from "../no_model.ts";
import { basename, dirname, join } from "../../base/paths.ts";
import { checkFolder, checkMissing } from "./journal.ts";
import { absolutePath, readError, refuseSpecial } from "./local_path.ts";
import { workingFolder } from "./working_folder.ts";
import { checkIndexSize, indexNaming, missingShard, parseModelIndex } from "../model_index.ts";

/** Resolves local paths of files, folders and indexes. */
export class LocalNames implements FileNames {
  readonly folder: string | undefined;

  /** @param folder the folder of relative paths; default is the current working folder */
  constructor(folder: string | undefined = workingFolder()) {
    this.folder = folder;
  }

  async resolve(path: string, naming: Naming): Promise<Found> {
    // The program can change its folder meanwhile; then the error does not concern this folder.
    const isHere = () => workingFolder() === this.folder;
    if (isHere()) {
      try {
        const found = await resolveLocal(path, naming);
        if (isHere()) return found;
      } catch (error) {
        if (isHere()) throw error;
      }
    }
    return await resolveLocal(absolutePath(path, this.folder), naming);
  }

  identify(path: string): string {
    return absolutePath(path, this.folder).replaceAll(/\/(\.?\/)+/g, "/");
  }

  explainAbsence(error: unknown, indexes: readonly Index[]): Promise<unknown> {
    return explainAbsence(error, indexes, this.folder);
  }
}

/**
 * Resolves a local path of a file, a folder or an index.
 *
 * @throws {SafeTensorsError} if a folder has no model or several, or an index is not valid
 * @throws {ReadError} if the path does not exist
 */
async function resolveLocal(path: string, naming: Naming): Promise<Found> {
  let info: Deno.FileInfo;
  try {
    info = await Deno.stat(path).catch(async (error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      if (naming === SAFETENSORS) await checkMissing(path); // a running save can rename a file to this name
      return await Deno.stat(path);
    });
  } catch (error) {
    throw error instanceof SafeTensorsError ? error : await explainAbsence(readError(error, "open", path));
  }
  if (info.isDirectory) return await resolveFolder(path, naming);
  if (!/\.json$/i.test(path)) {
    refuseSpecial(path, info);
    return { paths: [path], notes: [], isLookedAt: true };
  }
  const found = await readIndex(path, info);
  if (!await isStale(found, isThere)) return found;
  const { models } = modelsIn(await fileNames(dirname(path), naming), naming);
  const model = models.find(({ index }) => index === basename(path));
  if (!model || !isWhole(model)) return found; // opening the files throws the error about missing ones
  const folder = dirname(path);
  return { paths: filesOf(folder, model).map((name) => join(folder, name)), notes: [staleNote(found)] };
}

async function resolveFolder(folder: string, naming: Naming): Promise<Found> {
  let names: string[];
  try {
    names = await fileNames(folder, naming);
    if (naming === SAFETENSORS && await checkFolder(folder, names)) names = await fileNames(folder, naming);
  } catch (error) {
    throw error instanceof SafeTensorsError ? error : readError(error, "open", folder);
  }
  const chosen = await chooseInFolder({
    path: folder,
    names,
    pathOf: (name) => join(folder, name),
    readIndex: (name) => readIndex(join(folder, name)),
    isThere,
  }, naming);
  if (chosen) return chosen;
  const snapshot = await snapshotOf(folder);
  if (!snapshot) {
    const { leftOut } = modelsIn(names, naming);
    throw await noModel(folder, names, leftOut, naming, () => modelFolders(folder, naming));
  }
  const found = await resolveFolder(snapshot, naming);
  return {
    ...found,
    notes: [
      `The folder ${quote(folder)} is a cache: its snapshot ${quote(snapshot)} was opened`,
      ...found.notes,
    ],
  };
}

/** Lists the files in a folder, and links to files: the Hugging Face cache consists of links. */
async function fileNames(folder: string, { files }: Naming): Promise<string[]> {
  const names: string[] = [];
  for await (const { name, isDirectory, isSymlink } of Deno.readDir(folder)) {
    if (isDirectory) continue;
    if (isSymlink && files.some((suffix) => name.toLowerCase().endsWith(suffix))) {
      // A broken link counts as a file, so that the error names it.
      const info = await Deno.stat(join(folder, name)).catch(() => null);
      if (info?.isDirectory) continue;
    }
    names.push(name);
  }
  return names;
}

/** Finds the folders in a folder that contain models or are caches of models. */
async function modelFolders(folder: string, naming: Naming): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory, isSymlink } of Deno.readDir(folder)) {
    if ((!isDirectory && !isSymlink) || name.startsWith(".")) continue;
    try {
      const inside = await Array.fromAsync(Deno.readDir(join(folder, name)));
      const files = inside.filter(({ isDirectory }) => !isDirectory).map(({ name }) => name);
      const isCache = inside.some(({ name, isDirectory }) => isDirectory && name === "snapshots");
      if (isCache || modelsIn(files, naming).models.length > 0) found.push(name);
    } catch {
      continue; // a link to a file, or a folder that cannot be read
    }
  }
  return found.sort();
}

/** Returns the snapshot of a folder `models--org--name` of the Hugging Face cache; null for other folders. */
async function snapshotOf(folder: string): Promise<string | null> {
  const snapshots = join(folder, "snapshots");
  const names: string[] = [];
  try {
    for await (const { name, isDirectory } of Deno.readDir(snapshots)) if (isDirectory) names.push(name);
  } catch {
    return null;
  }
  const main = await readSmall(join(join(folder, "refs"), "main"));
  const name = names.includes(main) ? main : names.length === 1 ? names[0] : undefined;
  if (name !== undefined) return join(snapshots, name);
  if (names.length === 0) return null;
  const paths = names.sort().map((name) => quote(join(snapshots, name)));
  const message = `Cannot choose a snapshot in ${quote(folder)}: there are ${listOf(paths)}`;
  throw new SafeTensorsError("SeveralModels", message, { path: folder, advice: "open one of them" });
}

/** Returns the text of a small file; empty if it cannot be read. */
async function readSmall(path: string): Promise<string> {
  try {
    const { isFile, size } = await Deno.stat(path);
    return isFile && size < 1000 ? (await Deno.readTextFile(path)).trim() : "";
  } catch {
    return "";
  }
}

/** Reads an index; `info` is its file info, if the caller has it. */
async function readIndex(path: string, info?: Deno.FileInfo): Promise<Found> {
  let bytes: Uint8Array;
  let version: string;
  try {
    info ??= await Deno.stat(path);
    refuseSpecial(path, info); // a read of a pipe could wait forever
    checkIndexSize(path, info.size);
    version = versionOf(info);
    bytes = await Deno.readFile(path);
  } catch (error) {
    if (error instanceof SafeTensorsError) throw error;
    throw await explainAbsence(readError(error, "read", path));
  }
  const { index, ...found } = await parseModelIndex(path, bytes, (shard) => join(dirname(path), shard));
  const place = absolutePath(path);
  return { ...found, index: { ...index, verify: () => checkVersion(place, path, version) } };
}

async function isThere(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, (error) => !(error instanceof Deno.errors.NotFound));
}

/** Identifies a version of an index. Inode numbers are not used: some FUSE file systems change them all the time. */
function versionOf({ size, mtime }: Deno.FileInfo): string {
  return [size, mtime?.getTime()].join();
}

/** Throws if an index was replaced since it was read. */
async function checkVersion(place: string, path: string, version: string): Promise<void> {
  const info = await Deno.stat(place).catch(() => null);
  if (info && versionOf(info) === version) return;
  const message = `Cannot open ${quote(path)}: it was replaced while its shards were opened: open it again`;
  throw new ReadError(message, { path });
}

async function explainAbsence(
  error: unknown,
  indexes: readonly Index[] = [],
  folder: string | undefined = workingFolder(),
): Promise<unknown> {
  if (!(error instanceof ReadError) || error.errno !== 2) return error;
  const { path } = error;
  const isLocal = error.cause instanceof Deno.errors.NotFound;
  const link = isLocal ? await Deno.readLink(absolutePath(path, folder)).catch(() => null) : null;
  const index = indexNaming(path, indexes);
  if (index) {
    const absent = new Set([path]);
    for (const shard of new Set(index.weightMap.values())) {
      if (isLocal && !await isThere(absolutePath(shard, folder))) absent.add(shard);
    }
    const why = link === null ? "it does not exist" : linkText(link);
    const more = absent.size > 1 ? ` (${absent.size} are not there: ${listOf([...absent].map(quote))})` : "";
    return missingShard(error, index, why + more);
  }
  const advice = link !== null ? linkText(link) : isLocal ? adviceOn(path) : "";
  if (advice === "") return error;
  const message = link === null ? `${error.message}: ${advice}` : `Cannot open ${quote(path)}: ${advice}`;
  return new ReadError(message, { path, errno: 2, cause: error });
}

function linkText(target: string): string {
  return `it is a link to ${quote(target)}, which does not exist: download it again`;
}

/** Returns advice for the name of a file that does not exist, by the probable intention. */
function adviceOn(path: string): string {
  if (path === "-") return "standard input cannot be opened: write it to a file first";
  if (path.startsWith("~")) return "only a shell replaces ~ by a folder: pass the whole path";
  if (/[*?]|\[.*\]/.test(path)) return "patterns of names are not supported: name the files, or their folder";
  if (/^(?:https?|hf|s3):[^/\\]/i.test(path)) return `two slashes are missing: ${path.replace(":", "://")}`;
  if (/^[\w.-]+\/[\w.-]+$/.test(path) && !/^\.|\.\w*(safetensors|bin|pt|pth|json)$/i.test(path)) {
    return `for a model on the Hub of Hugging Face open ${quote(`hf://${path}`)}`;
  }
  return "";
}
