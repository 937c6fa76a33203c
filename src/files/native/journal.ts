/**
 * What a commit of several files is about to do, written down before it begins.
 *
 * Several renames are not one step. From the moment the journal of a set is there, its new files are what counts: if
 * the process ends in the midst, the next save of that set does the rest, or the command `repair`. Reading never does:
 * it refuses what an interrupted save has left, and says so.
 *
 * A journal names files of its own set and this package's temporary files, all in its folder. Whatever else it may
 * say, such as one that came with an archive, is refused.
 */
import { SafeTensorsError, WriteError } from "../../base/errors.ts";
import { quote } from "../../base/text.ts";
import { basename, dirname } from "../../base/paths.ts";
import { describeKind, isTemporaryName, lockFolders, lookAt } from "./folder.ts";
import { writeError } from "./write_error.ts";

/** Two file names in the journal's folder. */
export type Rename = readonly [from: string, to: string];

/** A commit. */
export interface Journal {
  /** Old files, and the temporary names that they get first: so nobody sees some of them beside new ones. */
  readonly hide: readonly Rename[];
  /** New files under temporary names, and the names that they get then. */
  readonly place: readonly Rename[];
}

const ENDING = ".fastsafetensors.json";

/** The journal of version 0.1, one for all sets of a folder. */
const FORMER_NAME = ".fastsafetensors-commit.json";

/** Far more than a set of 100,000 files needs. */
const MAX_BYTES = 32 * 2 ** 20;

/** The name of the journal of the set whose names begin with `stem`. */
export function journalName(stem: string): string {
  return `.${stem}${ENDING}`;
}

/** Whether a file of this name is a journal. */
function isJournalName(name: string): boolean {
  return name === FORMER_NAME || name.startsWith(".") && name.endsWith(ENDING);
}

/** What a set is named after: `model` for `model.safetensors`, its shards and its index; null for other names. */
export function stemOfMember(name: string): string | null {
  return /^(.+?)(?:-\d{5,}-of-\d{5,})?\.safetensors$/s.exec(name)?.[1] ??
    /^(.+)\.safetensors\.index\.json$/s.exec(name)?.[1] ?? null;
}

/** The bytes of a journal. */
export function writeJournal(journal: Journal): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(JSON.stringify(journal));
}

/** The journals in a folder, by name. */
export async function journalsIn(folder: string): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of Deno.readDir(folder)) if (isJournalName(name)) names.push(name);
  return names.sort();
}

/**
 * The journals that may be about a set: its own, and that of version 0.1, which may be about another.
 */
export async function journalsOf(folder: string, stem: string): Promise<string[]> {
  const names = [journalName(stem), FORMER_NAME];
  const infos = await Promise.all(names.map((name) => lookAt(`${folder}/${name}`)));
  return names.filter((_, index) => infos[index]);
}

/** A journal that may be carried out, and the set that it is about. */
export interface OwnJournal extends Journal {
  readonly stem: string;
}

/**
 * Reads a journal.
 *
 * @param uid the user who may carry it out; null where files have no owners
 * @throws {WriteError} if it is not a journal that this user's own save has left
 */
export async function readJournal(folder: string, name: string, uid: number | null): Promise<OwnJournal> {
  const path = `${folder}/${name}`;
  const refuse = (reason: string) =>
    new WriteError(`Cannot finish the interrupted save of ${quote(path)}: ${reason}: remove the journal`, {
      path,
    });
  const text = await readText(path, uid, refuse);
  const journal = parse(text);
  if (!journal) throw refuse("this is not a journal of a save");
  const names = [...journal.hide.map(([from]) => from), ...journal.place.map(([, to]) => to)];
  const stem = name === FORMER_NAME ? stemOfMember(journal.place[0]![1]) : name.slice(1, -ENDING.length);
  const stranger = names.find((member) => stem === null || stemOfMember(member) !== stem);
  if (stranger !== undefined) {
    throw refuse(`it names ${JSON.stringify(stranger)}, which is not a file of that set`);
  }
  return { ...journal, stem: stem! };
}

async function readText(
  path: string,
  uid: number | null,
  refuse: (reason: string) => WriteError,
): Promise<string> {
  try {
    const info = await Deno.lstat(path);
    if (!info.isFile) throw refuse(`it is ${describeKind(info)}`);
    if (uid !== null && info.uid !== uid) throw refuse(`it belongs to another user (uid ${info.uid})`);
    if (info.size > MAX_BYTES) throw refuse(`it has ${info.size} bytes, the limit is ${MAX_BYTES}`);
    using file = await Deno.open(path, { read: true });
    const opened = await file.stat();
    if (opened.dev !== info.dev || opened.ino !== info.ino) throw refuse("it was replaced just now");
    const bytes = new Uint8Array(info.size);
    let length = 0;
    for (let got: number | null; length < bytes.length && (got = await file.read(bytes.subarray(length)));) {
      length += got;
    }
    return new TextDecoder().decode(bytes.subarray(0, length));
  } catch (error) {
    throw writeError(error, "finish the interrupted save of", path);
  }
}

/** A journal as it may be written: every name once, nothing outside of its folder. */
function parse(text: string): Journal | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  const { hide, place } = (value ?? {}) as Record<string, unknown>;
  const isHide = isListOf(hide, ([from, to]) => isPlainName(from) && isTemporaryName(to));
  const isPlace = isListOf(place, ([from, to]) => isTemporaryName(from) && isPlainName(to));
  if (!isHide || !isPlace) return null;
  const journal = { hide, place } as unknown as Journal;
  const lists = [
    [...journal.hide.map(([, to]) => to), ...journal.place.map(([from]) => from)],
    journal.hide.map(([from]) => from),
    journal.place.map(([, to]) => to),
  ];
  const isDistinct = lists.every((names) => new Set(names).size === names.length);
  return isDistinct && journal.place.length > 0 ? journal : null;
}

function isListOf(value: unknown, test: (rename: Rename) => boolean): boolean {
  return Array.isArray(value) && value.every((rename) =>
    Array.isArray(rename) && rename.length === 2 &&
    rename.every((name) => typeof name === "string") && test(rename as unknown as Rename)
  );
}

function isPlainName(name: string): boolean {
  return name !== "" && name !== "." && name !== ".." && !/[/\\\0]/.test(name);
}

/** How long opening waits for a commit that goes on just now, in milliseconds: it is a matter of some renames. */
const PATIENCE = 10_000;

/**
 * Throws if a file is missing because a save that should have written it was interrupted. For whoever opens it:
 * nothing is written.
 *
 * @throws {SafeTensorsError} "InterruptedSave"
 */
export async function checkMissing(path: string): Promise<void> {
  const stem = stemOfMember(basename(path)), folder = dirname(path);
  if (stem !== null) await refuseInterrupted(path, folder, () => isInterrupted(folder, stem));
}

/**
 * Throws if a save of a set in this folder was interrupted: what is there may be parts of two models. For whoever
 * opens the folder: nothing is written.
 *
 * @param names the names in the folder
 * @returns whether a save went on just now, so that the folder may have other names by now
 * @throws {SafeTensorsError} "InterruptedSave"
 */
export async function checkFolder(folder: string, names: readonly string[]): Promise<boolean> {
  if (!names.some(isJournalName)) return false;
  await refuseInterrupted(folder, folder, async () => (await journalsIn(folder)).length > 0);
  return true;
}

async function refuseInterrupted(path: string, folder: string, find: () => Promise<boolean>): Promise<void> {
  try {
    if (!await find()) return;
    // A commit that goes on has the folder locked.
    using _lock = await lockFolders([folder], AbortSignal.timeout(PATIENCE));
    if (!await find()) return;
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable || error instanceof WriteError) return; // nothing to go by
    if ((error as Error).name !== "TimeoutError") throw error;
  }
  throw interruptedSave("open", path, folder);
}

/** Whether a set has a journal; one of version 0.1 that cannot be read is about none. */
async function isInterrupted(folder: string, stem: string): Promise<boolean> {
  const names = await journalsOf(folder, stem);
  if (names.includes(journalName(stem))) return true;
  return names.length > 0 &&
    await readJournal(folder, FORMER_NAME, null).then((journal) => journal.stem === stem, () => false);
}

/** The error about a set whose save was interrupted. */
export function interruptedSave(action: string, path: string, folder: string): SafeTensorsError {
  const message = `Cannot ${action} ${quote(path)}: a save there was interrupted`;
  const advice = `save it again over what is there, or run "fastsafetensors repair ${folder}"`;
  return new SafeTensorsError("InterruptedSave", message, { path, advice });
}
