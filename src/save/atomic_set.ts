/**
 * A set of files that becomes visible as a whole: all are written under temporary names, and renamed at the end.
 *
 * Temporary files are locked while their process lives; the next save to the folder removes unlocked ones. A
 * single file is renamed over the old one. A set needs several renames: first a journal (journal.ts) lists them,
 * then the old files are hidden, and then the new files get their names, so that old and new files are never
 * visible together. If a rename fails, all renames are undone.
 */
import { WriteError } from "../base/errors.ts";
import { quote } from "../base/text.ts";
import { basename, dirname } from "../base/paths.ts";
import {
  findAbandoned,
  hasLongName,
  lockFolders,
  lookAt,
  removeQuietly,
  temporaryName,
} from "../files/native/folder.ts";
import {
  interruptedSave,
  type Journal,
  journalName,
  journalsIn,
  journalsOf,
  readJournal,
  stemOfMember,
  writeJournal,
} from "../files/native/journal.ts";
import { carryOut, foldersOf, planRepair } from "./repair.ts";
import { stemOf } from "./shards.ts";
import {
  type Access,
  checkPlace,
  commonAccess,
  findPlace,
  makeFolder,
  type Place,
  requireAccess,
  setAccess,
} from "./target.ts";
import type { OpenOutput, WriteEngine } from "./write_engine.ts";
import { longName } from "../files/native/write_error.ts";

/** Options for replacing existing files. */
export interface SetOptions {
  /** Whether existing files may be replaced. */
  readonly overwrite: boolean;
  /** Whether to wait until all bytes are on storage. */
  readonly sync: boolean;
  /** Whether to write past the page cache. */
  readonly direct: boolean;
  /** Cancels the save until the first rename. */
  readonly signal?: AbortSignal | undefined;
}

/** A file of a set. */
export interface SetFile {
  /** Its path after the commit. */
  readonly path: string;
  /** Its size in bytes. */
  readonly size: number;
}

/** One step of a commit. */
interface Step {
  readonly from: string;
  readonly to: string;
  /** The path that an error names. */
  readonly subject: string;
}

/** The files of a save, before their final names. */
export class AtomicSet {
  /** The files, in the order of the constructor's argument. */
  readonly outputs: readonly OpenOutput[];
  readonly #engine: WriteEngine;
  /** The path that the user gave. */
  readonly #target: string;
  readonly #folder: string;
  /** Every path that must be free, unless it may be replaced, and the place of its bytes. */
  readonly #places: ReadonlyMap<string, Place>;
  readonly #options: SetOptions;
  /** Folders made for this save, the innermost first. */
  readonly #made: readonly string[];
  /** Six digits that identify this set in folders that its links point to. */
  #id = "";
  #needsRepair = false;

  private constructor(
    engine: WriteEngine,
    target: string,
    outputs: readonly OpenOutput[],
    places: ReadonlyMap<string, Place>,
    made: readonly string[],
    options: SetOptions,
  ) {
    this.#engine = engine;
    this.#target = target;
    this.#folder = dirname(target);
    this.outputs = outputs;
    this.#places = places;
    this.#made = made;
    this.#options = options;
  }

  /**
   * Creates the files under temporary names, with reserved space; a missing folder is created. An interrupted save
   * of this set by a process that has ended is finished, and temporary files of ended processes are removed.
   *
   * @param target the path that the user gave; the names and the folder of the files come from it
   * @param occupied more paths that must be free, unless they may be replaced
   * @throws {SafeTensorsError} "FileExists" if a file exists and may not be replaced; "InterruptedSave" if an
   *   interrupted save left files that may not be replaced
   * @throws {WriteError} if the system refuses, or a path is not a regular file
   */
  static async create(
    engine: WriteEngine,
    target: string,
    files: readonly SetFile[],
    occupied: readonly string[],
    options: SetOptions,
  ): Promise<AtomicSet> {
    const folder = dirname(target);
    await requireAccess([folder]);
    for (const { path } of files) if (hasLongName(path)) throw longName(path);
    const made = await makeFolder(folder);
    const outputs: OpenOutput[] = [];
    const places = new Map<string, Place>();
    const set = new AtomicSet(engine, target, outputs, places, made, options);
    try {
      for (const path of [...files.map(({ path }) => path), ...occupied]) {
        places.set(path, await findPlace(path));
      }
      const folders = set.#folders();
      if (folders.length > 1) await requireAccess(folders);
      set.#id = await idOf(target);
      {
        using _lock = await lockFolders(folders, options.signal);
        await set.#finishInterrupted();
        for (const folder of folders) await removeAbandoned(folder, set.#id);
        await set.#checkAgain();
        const replaces = places.values().some(({ info }) => info);
        for (const { path } of files) {
          const temporary = set.#temporaryIn(dirname(places.get(path)!.path));
          // The new file is never readable by more users than the old one, so its mode is set before its name.
          outputs.push(await engine.create(temporary, path, options.direct, replaces ? 0o600 : 0o666));
        }
      }
      for (const [index, { size }] of files.entries()) await outputs[index]!.allocate(size);
      return set;
    } catch (error) {
      await set.discard();
      throw error;
    }
  }

  /**
   * Gives the files their final names, in their order; all bytes must be written.
   *
   * @param findSuperseded returns the files that the set replaces under other names
   * @throws {SafeTensorsError} "FileExists" if a file was created meanwhile and may not be replaced
   * @throws {WriteError} if the system refuses; the old files are restored
   */
  async commit(findSuperseded: () => Promise<readonly string[]>): Promise<void> {
    const { sync, overwrite, signal } = this.#options;
    if (sync) await settleAll(this.outputs.map((output) => output.sync()));
    const { outputs } = this;
    using _lock = await lockFolders(this.#folders(), signal);
    await this.#finishInterrupted();
    const before = [...this.#places.values()];
    await this.#checkAgain();
    const old = overwrite ? this.#existing(await findSuperseded()) : [];
    await this.#copyAccess(old, before);
    signal?.throwIfAborted();
    const stem = stemOf(basename(this.#target));
    const own = new Set(outputs.map(({ target }) => target));
    const isMember = (path: string) => stemOfMember(basename(path)) === stem;
    // Files named differently cannot be listed in the journal: they are removed after the new files have names.
    const journaled = old.filter(isMember);
    if (outputs.length === 1 && (!isMember(outputs[0]!.target) || journaled.every((path) => own.has(path)))) {
      await this.#replace(outputs[0]!);
    } else {
      await this.#exchange(stem, journaled);
    }
    this.#close();
    for (const path of old) if (!own.has(path)) await removeQuietly(path);
  }

  /** Removes all written files. */
  async discard(): Promise<void> {
    this.#close();
    if (this.#needsRepair) return;
    for (const { path } of this.outputs) await removeQuietly(path);
    for (const folder of this.#made) await removeQuietly(folder);
  }

  /** Renames the only file over the old one, so that one of them always exists. */
  async #replace({ path, target }: OpenOutput): Promise<void> {
    const { sync, overwrite } = this.#options;
    const { path: place, info } = this.#places.get(target)!;
    if (!sync) return await this.#engine.rename(path, place, overwrite, target);
    const folder = dirname(place);
    const backup = `${folder}/${temporaryName()}`;
    // The old file gets a second name until the new one cannot fail, if the file system has hard links.
    const hasBackup = info !== null && await Deno.link(place, backup).then(() => true, () => false);
    try {
      await this.#engine.rename(path, place, overwrite, target);
      await this.#engine.syncFolder(folder).catch(async (error) => {
        if (hasBackup) await this.#engine.rename(backup, place, true);
        else if (!info) await this.#engine.rename(place, path, true);
        throw error;
      });
    } finally {
      if (hasBackup) await removeQuietly(backup);
    }
  }

  /** Hides the old files and gives the new ones their names; undoes all if one rename fails. */
  async #exchange(stem: string, old: readonly string[]): Promise<void> {
    const { outputs } = this;
    const own = new Set(outputs.map(({ target }) => target));
    const hide = old.map((subject): Step => {
      // A link that does not lead to a new file is hidden itself.
      const from = own.has(subject) ? this.#places.get(subject)!.path : subject;
      return { from, to: this.#temporaryIn(dirname(from)), subject };
    });
    const place = outputs.map(({ path, target }): Step => {
      return { from: path, to: this.#places.get(target)!.path, subject: target };
    });
    const journal = `${this.#folder}/${journalName(stem)}`;
    const done: Step[] = [];
    try {
      await this.#writeJournal(journal, {
        hide: hide.map(({ subject, to }) => [basename(subject), basename(to)]),
        place: place.map(({ from, subject }) => [basename(from), basename(subject)]),
      });
      for (const step of [...hide, ...place]) {
        await this.#engine.rename(step.from, step.to, false, step.subject);
        done.push(step);
      }
      if (this.#options.sync) {
        for (const folder of this.#folders()) await this.#engine.syncFolder(folder);
      }
    } catch (error) {
      await this.#rollBack(done, journal, error);
      throw error;
    }
    await removeQuietly(journal);
    for (const { to } of hide) await removeQuietly(to);
  }

  /** Undoes renames, and removes the journal. */
  async #rollBack(done: readonly Step[], journal: string, cause: unknown): Promise<void> {
    this.#needsRepair = true; // while the journal exists, a repair needs all these files
    try {
      for (const { from, to, subject } of done.toReversed()) {
        await this.#engine.rename(to, from, false, subject);
      }
      if (await lookAt(journal)) await Deno.remove(journal);
    } catch {
      const message =
        `Cannot save to ${
          quote(this.#folder)
        }, nor put back what was there: save it again over what is there, or run ` +
        `"fastsafetensors repair ${this.#folder}": ${(cause as Error).message}`;
      throw new WriteError(message, {
        path: this.#folder,
        errno: (cause as Partial<WriteError>).errno ?? 0,
        cause,
      });
    }
    this.#needsRepair = false;
  }

  async #writeJournal(path: string, journal: Journal): Promise<void> {
    const { sync } = this.#options;
    const temporary = `${this.#folder}/${temporaryName()}`;
    const output = await this.#engine.create(temporary, path, false, 0o666);
    try {
      await output.write(writeJournal(journal), 0, "U8", "U8");
      if (sync) await output.sync();
      await this.#engine.rename(temporary, path, false);
      if (sync) await this.#engine.syncFolder(this.#folder);
    } finally {
      output.close();
      await removeQuietly(temporary);
    }
  }

  #temporaryIn(folder: string): string {
    return `${folder}/${temporaryName(folder === this.#folder ? undefined : this.#id)}`;
  }

  /** The folder of the set, and those that its links point to. */
  #folders(): string[] {
    return [...new Set([this.#folder, ...this.#places.values().map(({ path }) => dirname(path))])];
  }

  /** Finishes an interrupted save of this set, if its files may be replaced. */
  async #finishInterrupted(): Promise<void> {
    const folder = this.#folder, stem = stemOf(basename(this.#target));
    const journals = await journalsOf(folder, stem);
    if (journals.length === 0) return;
    const uid = await ownUid(folder);
    for (const name of journals) {
      const isOwnName = name === journalName(stem);
      // The journal of version 0.1 may be about another set; only the owner repairs another user's.
      if (!isOwnName && (await lookAt(`${folder}/${name}`))?.uid !== uid) continue;
      const journal = await readJournal(folder, name, uid);
      if (journal.stem !== stem) continue;
      if (!this.#options.overwrite) throw interruptedSave("save", this.#target, folder);
      const repair = await planRepair(folder, name, uid);
      await requireAccess(foldersOf(repair));
      await carryOut(repair);
    }
  }

  /**
   * Checks all places again, now that the lock excludes other saves.
   *
   * @throws {SafeTensorsError} "FileExists"
   * @throws {WriteError} if a path is not a regular file, or a link has changed
   */
  async #checkAgain(): Promise<void> {
    const places = this.#places as Map<string, Place>;
    for (const [path, { path: before }] of places) {
      const place = await findPlace(path);
      if (place.path !== before) {
        throw new WriteError(`Cannot save ${quote(path)}: a link was made or changed meanwhile`, { path });
      }
      checkPlace(path, place, this.#options.overwrite);
      places.set(path, place);
    }
  }

  /**
   * The existing files among the set's own paths and the superseded ones, the index first: without it the rest is
   * not a set.
   */
  #existing(superseded: readonly string[]): string[] {
    const own = this.outputs.map(({ target }) => target);
    const isIndex = (path: string) => path.endsWith(".json") ? 1 : 0;
    return [
      ...own.filter((path) => this.#places.get(path)!.info),
      ...superseded.filter((path) => !own.includes(path)),
    ].sort((a, b) => isIndex(b) - isIndex(a));
  }

  /** Gives every new file the access rights of the file that it replaces. */
  async #copyAccess(old: readonly string[], before: readonly Place[]): Promise<void> {
    const files = new Map<string, Access>();
    for (const path of old) {
      const info = await Deno.stat(path).catch(() => null); // a broken link is superseded as well
      if (info?.isFile) files.set(path, info);
    }
    const shards = [...files].filter(([path]) => !path.endsWith(".json")).map(([, access]) => access);
    const common = commonAccess(shards.length > 0 ? shards : [...files.values()]) ??
      commonAccess(before.flatMap(({ info }) => info ? [info] : []));
    for (const { path, target } of this.outputs) {
      const access = files.get(target) ?? common;
      if (access) await setAccess(path, access);
    }
  }

  #close(): void {
    for (const output of this.outputs) output.close();
  }
}

/** Waits for all, so that no call is running after one has failed. */
async function settleAll(calls: readonly Promise<void>[]): Promise<void> {
  await Promise.allSettled(calls);
  await Promise.all(calls);
}

/** Removes the temporary files of ended processes, except those that an interrupted save still needs. */
async function removeAbandoned(folder: string, set: string): Promise<void> {
  const spared = new Set<string>();
  for (const name of await journalsIn(folder)) {
    try {
      const { hide, place } = await readJournal(folder, name, null);
      for (const [, to] of hide) spared.add(to);
      for (const [from] of place) spared.add(from);
    } catch {
      return; // it is unknown which files it needs
    }
  }
  for (const path of await findAbandoned(folder, spared, set)) await removeQuietly(path);
}

/** The owner of new files of this process in a folder; null if files have no owners. */
async function ownUid(folder: string): Promise<number | null> {
  const path = `${folder}/${temporaryName()}`;
  using file = await Deno.open(path, { createNew: true, write: true });
  try {
    return (await file.stat()).uid;
  } finally {
    await removeQuietly(path);
  }
}

/** Six hexadecimal digits that identify a set. */
async function idOf(target: string): Promise<string> {
  const name = `${await Deno.realPath(dirname(target))}/${stemOf(basename(target))}`;
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(name));
  return new Uint8Array(hash, 0, 3).toHex();
}
