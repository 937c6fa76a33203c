/**
 * Journals: a save of several files writes the list of its renames before the first one.
 *
 * Several renames are not atomic. After the journal of a set is written, its new files are valid: if the process ends
 * before the last rename, the next save of that set or the command `repair` does the remaining renames. A reader does not
 * rename files: it throws an error if a save was interrupted.
 *
 * A journal names files of its set and temporary files of this package, all in its folder. A journal with other names,
 * for example from an archive, is rejected.
 */
import { SafeTensorsError, WriteError } from "../../base/errors.ts";
import { quote } from "../../base/text.ts";
import { basename, dirname } from "../../base/paths.ts";
import { describeKind, isTemporaryName, lockFolders, lookAt } from "./folder.ts";
import { writeError } from "./write_error.ts";

/** Two file names in the journal's folder. */
export type Rename = readonly [from: string, to: string];

/** The renames of a save. */
export interface Journal {
  /** Old files and their temporary names; they are renamed first, so that no reader can mix old and new files. */
  readonly hide: readonly Rename[];
  /** Temporary names of new files, and their final names. */
  readonly place: readonly Rename[];
}

const ENDING = ".fastsafetensors.json";

/** The journal of version 0.1, one for all sets of a folder. */
const FORMER_NAME = ".fastsafetensors-commit.json";

/** Largest journal in bytes: far more than a set of 100,000 files needs. */
const MAX_BYTES = 32 * 2 ** 20;

/** Returns the name of the journal of the set whose names begin with `stem`. */
export function journalName(stem: string): string {
  return `.${stem}${ENDING}`;
}

/** Whether a file of this name is a journal. */
function isJournalName(name: string): boolean {
  return name === FORMER_NAME || name.startsWith(".") && name.endsWith(ENDING);
}

/** Returns the stem of a set: `model` for `model.safetensors`, its shards and its index; null for other names. */
export function stemOfMember(name: string): string | null {
  return /^(.+?)(?:-\d{5,}-of-\d{5,})?\.safetensors$/s.exec(name)?.[1] ??
    /^(.+)\.safetensors\.index\.json$/s.exec(name)?.[1] ?? null;
}

/** Encodes a journal. */
export function writeJournal(journal: Journal): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(JSON.stringify(journal));
}

/** Returns the names of the journals in a folder. */
export async function journalsIn(folder: string): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of Deno.readDir(folder)) if (isJournalName(name)) names.push(name);
  return names.sort();
}

/**
 * Returns the journals that can belong to a set: its own, and that of version 0.1, which can belong to another set.
 */
export async function journalsOf(folder: string, stem: string): Promise<string[]> {
  const names = [journalName(stem), FORMER_NAME];
  const infos = await Promise.all(names.map((name) => lookAt(`${folder}/${name}`)));
  return names.filter((_, index) => infos[index]);
}

/** A journal whose renames are allowed, and the stem of its set. */
export interface OwnJournal extends Journal {
  readonly stem: string;
}

/**
 * Reads a journal.
 *
 * @param uid the user who runs the renames; null if files have no owners
 * @throws {WriteError} if it is not a journal of a save of this user
 */
export async function readJournal(folder: string, name: string, uid: number | null): Promise<OwnJournal> {
  const path = `${folder}/${name}`;
  const refuse = (reason: string) =>
    new WriteError(`Cannot finish the interrupted save of ${quote(path)}: ${reason}: remove the journal`, {
      path,
    });
  const text = await readText(path, uid, refuse);
  const journal = parse(text);
  if (!journal) throw refuse("it is not a journal of a save");
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
    if (opened.dev !== info.dev || opened.ino !== info.ino) throw refuse("it was replaced during the read");
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

/** Parses a journal; returns null if a name occurs twice or is outside of its folder. */
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

/** Time that opening waits for the renames of a running save, in milliseconds. */
const PATIENCE = 10_000;

/**
 * Throws if a file does not exist because a save of it was interrupted. Readers call it; it writes nothing.
 *
 * @throws {SafeTensorsError} "InterruptedSave"
 */
export async function checkMissing(path: string): Promise<void> {
  const stem = stemOfMember(basename(path)), folder = dirname(path);
  if (stem !== null) await refuseInterrupted(path, folder, () => isInterrupted(folder, stem));
}

/**
 * Throws if a save of a set in this folder was interrupted: the files can be parts of two models. Readers call it; it
 * writes nothing.
 *
 * @param names the names in the folder
 * @returns whether a save was running, so that the names in the folder can have changed
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
    // A running save holds the lock of the folder.
    using _lock = await lockFolders([folder], AbortSignal.timeout(PATIENCE));
    if (!await find()) return;
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable || error instanceof WriteError) return; // it cannot be checked
    if ((error as Error).name !== "TimeoutError") throw error;
  }
  throw interruptedSave("open", path, folder);
}

/** Whether a set has a journal; a journal of version 0.1 that cannot be read is ignored. */
async function isInterrupted(folder: string, stem: string): Promise<boolean> {
  const names = await journalsOf(folder, stem);
  if (names.includes(journalName(stem))) return true;
  return names.length > 0 &&
    await readJournal(folder, FORMER_NAME, null).then((journal) => journal.stem === stem, () => false);
}

/** Makes the error for a set whose save was interrupted. */
export function interruptedSave(action: string, path: string, folder: string): SafeTensorsError {
  const message = `Cannot ${action} ${quote(path)}: a save there was interrupted`;
  const advice = `save it again over what is there, or run "fastsafetensors repair ${folder}"`;
  return new SafeTensorsError("InterruptedSave", message, { path, advice });
}
