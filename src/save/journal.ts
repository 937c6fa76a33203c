/**
 * What a commit of several files is about to do, written down before it begins.
 *
 * Several renames are not one step. From the moment the journal `.fastsafetensors-commit.json` is there, the new files
 * are what counts: if the process ends in the midst, the next save to the folder does the rest, or the next to open a
 * model there. There is one at most in a folder, for whoever writes one has the folder locked.
 */
import { WriteError } from "../errors.ts";
import { isTemporaryName, lockFolder, lookAt, removeQuietly } from "./folder.ts";
import { writeError } from "./write_error.ts";

/** The name of a journal. */
export const JOURNAL_NAME = ".fastsafetensors-commit.json";

/** Two file names in the journal's folder. */
export type Rename = readonly [from: string, to: string];

/** A commit. */
export interface Journal {
  /** Old files, and the temporary names that they get first: so nobody sees some of them beside new ones. */
  readonly hide: readonly Rename[];
  /** New files under temporary names, and the names that they get then. */
  readonly place: readonly Rename[];
}

/** The bytes of a journal. */
export function writeJournal(journal: Journal): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(JSON.stringify(journal));
}

/**
 * Does the rest of a commit whose process has ended, if there is one in this folder; waits for one that goes on.
 *
 * @throws {WriteError} if that cannot be done
 */
export async function finishInterruptedSave(folder: string): Promise<void> {
  try {
    if (!await lookAt(`${folder}/${JOURNAL_NAME}`)) return;
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) return; // what may not be seen is nothing to go by
    throw error;
  }
  using _lock = await lockFolder(folder);
  await finishCommit(folder);
}

/** The same, for who has locked the folder. */
export async function finishCommit(folder: string): Promise<void> {
  const path = `${folder}/${JOURNAL_NAME}`;
  try {
    const journal = await readJournal(path);
    if (!journal) return;
    const placedFrom = new Map(journal.place.map(([from, to]) => [to, from]));
    for (const [from, to] of journal.hide) {
      const temporary = placedFrom.get(from);
      const isPlaced = temporary !== undefined && !await lookAt(`${folder}/${temporary}`);
      if (!isPlaced) await renameIfThere(folder, from, to);
    }
    for (const [from, to] of journal.place) await renameIfThere(folder, from, to);
    await Deno.remove(path);
    for (const [, hidden] of journal.hide) await removeQuietly(`${folder}/${hidden}`);
  } catch (error) {
    throw writeError(error, "finish the interrupted save of", path);
  }
}

async function renameIfThere(folder: string, from: string, to: string): Promise<void> {
  try {
    await Deno.rename(`${folder}/${from}`, `${folder}/${to}`);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error; // done before the process ended
  }
}

async function readJournal(path: string): Promise<Journal | null> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
  const journal = parse(text);
  if (journal) return journal;
  const message = `Cannot finish the interrupted save of "${path}": this is no journal of a save: remove it`;
  throw new WriteError(message, { path });
}

/** A journal that touches nothing but its own folder: the old files are hidden, the temporary ones placed. */
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
  return isHide && isPlace ? { hide: hide as Rename[], place: place as Rename[] } : null;
}

function isListOf(value: unknown, test: (rename: Rename) => boolean): boolean {
  return Array.isArray(value) && value.every((rename) =>
    Array.isArray(rename) && rename.length === 2 &&
    rename.every((name) => typeof name === "string") && test(rename as unknown as Rename)
  );
}

function isPlainName(name: string): boolean {
  return name !== "" && name !== "." && name !== ".." && !/[/\0]/.test(name);
}
