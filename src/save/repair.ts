/**
 * Completes, or undoes, a commit whose process has ended.
 *
 * It is completed if every new file still exists, under its temporary or its final name. If some are missing and
 * none has its final name yet, the old files are restored. In other cases the user must decide.
 */
import { WriteError } from "../base/errors.ts";
import { quote } from "../base/text.ts";
import { basename, dirname } from "../base/paths.ts";
import { describeKind, lockFolders, lookAt, removeQuietly, syncFolder } from "../files/native/folder.ts";
import { journalsIn, type OwnJournal, readJournal } from "../files/native/journal.ts";
import { findPlace } from "./target.ts";
import { writeError } from "../files/native/write_error.ts";

/** The steps of a repair. */
export interface Repair {
  /** The journal. */
  readonly path: string;
  /** The common part of the names of the set's files. */
  readonly stem: string;
  /** "complete": the new files get their names; "undo": the old files are restored. */
  readonly kind: "complete" | "undo";
  /** Renames, in their order. */
  readonly renames: readonly { readonly from: string; readonly to: string }[];
  /** Files that are removed after the renames. */
  readonly removals: readonly string[];
}

/** A file that a journal names. */
interface Member {
  readonly name: string;
  /** Its path; for a new file, the target of a link. */
  readonly path: string;
  readonly exists: boolean;
  /** The new file under its temporary name, if the journal lists one. */
  readonly temporary: { readonly path: string; readonly exists: boolean } | null;
  /** The old file under its temporary name, if the journal lists one. */
  readonly hidden: { readonly path: string; readonly exists: boolean } | null;
}

/**
 * Plans the repair of a journal. No file is changed; the folder should be locked.
 *
 * @param uid the user who may carry it out; null if files have no owners
 * @throws {WriteError} if it is not a journal of this user's own save, or can be neither completed nor undone
 */
export async function planRepair(folder: string, journal: string, uid: number | null): Promise<Repair> {
  const path = `${folder}/${journal}`;
  const read = await readJournal(folder, journal, uid);
  const members = await findMembers(folder, read);
  const { stem } = read;
  const placed = members.filter(({ temporary }) => temporary);
  const isPending = placed.some(({ temporary }) => temporary!.exists);
  const isPlaced = ({ exists, temporary, hidden }: Member) =>
    exists && !temporary!.exists && (!hidden || hidden.exists);
  // A file without its temporary new file, or without its hidden old one, is new if no other step is left.
  const isEither = ({ exists, temporary, hidden }: Member) =>
    exists && !temporary!.exists && hidden && !hidden.exists;
  const inTheWay = members.find(({ exists, temporary, hidden }) =>
    exists && temporary?.exists && (!hidden || hidden.exists)
  );
  const refuse = (reason: string) =>
    new WriteError(`Cannot finish the interrupted save of ${quote(path)}: ${reason}`, { path });
  if (inTheWay) throw refuse(`${quote(inTheWay.path)} was created since: move it away`);
  const lost = placed.find((member) =>
    !member.temporary!.exists && (!member.exists || isPending && isEither(member))
  );
  if (!lost) {
    const hide = members.filter(({ exists, temporary, hidden }) =>
      hidden && exists && !hidden.exists && (!temporary || temporary.exists)
    );
    const renames = [
      ...hide.map(({ path, hidden }) => ({ from: path, to: hidden!.path })),
      ...placed.filter(({ temporary }) => temporary!.exists)
        .map(({ path, temporary }) => ({ from: temporary!.path, to: path })),
    ];
    const removals = members.filter(({ hidden }) => hidden?.exists).map(({ hidden }) => hidden!.path);
    removals.push(...hide.map(({ hidden }) => hidden!.path));
    return { path, stem, kind: "complete", renames, removals };
  }
  const gone = members.find(({ exists, hidden }) => hidden && !hidden.exists && !exists);
  if (gone || placed.some(isPlaced)) {
    const missing = (gone ?? lost).path;
    throw refuse(
      `${quote(missing)} does not exist, also not under its temporary name: remove the incomplete files`,
    );
  }
  return {
    path,
    stem,
    kind: "undo",
    renames: members.filter(({ hidden, exists }) => hidden?.exists && !exists)
      .map(({ path, hidden }) => ({ from: hidden!.path, to: path })),
    removals: placed.filter(({ temporary }) => temporary!.exists).map(({ temporary }) => temporary!.path),
  };
}

async function findMembers(folder: string, journal: OwnJournal): Promise<Member[]> {
  const hidden = new Map(journal.hide);
  const temporary = new Map(journal.place.map(([from, to]) => [to, from]));
  const names = new Set([...hidden.keys(), ...temporary.keys()]);
  return await Promise.all([...names].map(async (name) => {
    const hide = hidden.get(name), place = temporary.get(name);
    // A new file replaces the target of a link, as in the save; an old file without a new one is the link itself.
    const { path, info } = place === undefined
      ? { path: `${folder}/${name}`, info: await lookAt(`${folder}/${name}`) }
      : await findPlace(`${folder}/${name}`);
    if (info && !info.isFile && !(info.isSymlink && place === undefined)) throw special(path, info);
    const beside = async (other: string | undefined) => {
      if (other === undefined) return null;
      const beside = { path: `${dirname(path)}/${other}`, info: await lookAt(`${dirname(path)}/${other}`) };
      const mayBeLink = place === undefined; // a hidden link
      if (beside.info && !beside.info.isFile && !(beside.info.isSymlink && mayBeLink)) {
        throw special(beside.path, beside.info);
      }
      return { path: beside.path, exists: beside.info !== null };
    };
    return { name, path, exists: info !== null, temporary: await beside(place), hidden: await beside(hide) };
  }));
}

function special(path: string, info: Deno.FileInfo): WriteError {
  const message = `Cannot finish an interrupted save: ${quote(path)} is ${describeKind(info)}: remove it`;
  return new WriteError(message, { path });
}

/**
 * Carries out a repair. The folder must be locked.
 *
 * @throws {WriteError} if the system refuses; the repair can be tried again
 */
export async function carryOut({ path, renames, removals }: Repair): Promise<void> {
  try {
    for (const { from, to } of renames) await Deno.rename(from, to);
    const folders = new Set([path, ...renames.map(({ to }) => to)].map(dirname));
    for (const folder of folders) await syncFolder(folder);
    await Deno.remove(path);
  } catch (error) {
    throw writeError(error, "finish the interrupted save of", path);
  }
  for (const left of removals) await removeQuietly(left);
}

/** The folders in which a repair renames or removes files. */
export function foldersOf({ path, renames, removals }: Repair): string[] {
  return [...new Set([path, ...renames.map(({ to }) => to), ...removals].map(dirname))];
}

/** The interrupted saves in a folder. */
export interface Leftovers {
  /** Repairs that are possible. */
  readonly repairs: readonly Repair[];
  /** The errors about journals that cannot be repaired. */
  readonly refused: readonly Error[];
}

/**
 * Finds the interrupted saves in a folder. No file is changed.
 *
 * @throws {WriteError} if the folder cannot be read
 */
export async function findLeftovers(folder: string, uid: number | null): Promise<Leftovers> {
  using _lock = await lockFolders([folder]); // a running save is not an interrupted one
  const repairs: Repair[] = [], refused: Error[] = [];
  for (const name of await journalsIn(folder)) {
    try {
      repairs.push(await planRepair(folder, name, uid));
    } catch (error) {
      if (!(error instanceof WriteError)) throw error;
      refused.push(error);
    }
  }
  return { repairs, refused };
}

/**
 * Carries out a planned repair, unless the files have changed since.
 *
 * @throws {WriteError} if the repair would differ now, or the system refuses
 */
export async function carryOutIfUnchanged(found: Repair, uid: number | null): Promise<void> {
  const folder = dirname(found.path);
  using _locks = await lockFolders(foldersOf(found));
  const now = await planRepair(folder, basename(found.path), uid);
  if (JSON.stringify(now) !== JSON.stringify(found)) {
    throw new WriteError(`Cannot repair ${quote(folder)}: files have changed meanwhile: run it again`, {
      path: folder,
    });
  }
  await carryOut(now);
}
