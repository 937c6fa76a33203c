/**
 * A set of files that appears as a whole: everything is written under temporary names, and renamed at the end.
 *
 * Temporary files are locked while their process lives; the next save to the folder removes those that nobody has
 * locked. A single file is renamed over the old one. A set needs several renames: a journal (journal.ts) says first
 * what they are, the old files are hidden, and then the new ones get their names, so that at no time some of the old
 * ones stand beside some of the new ones. If a rename fails, all is put back.
 */
import { WriteError } from "../errors.ts";
import {
  folderOf,
  hasLongName,
  isTemporaryName,
  lockFolder,
  lookAt,
  nameOf,
  removeAbandoned,
  removeQuietly,
  temporaryName,
} from "./folder.ts";
import { finishCommit, type Journal, JOURNAL_NAME, type Rename, writeJournal } from "./journal.ts";
import type { OpenOutput, WriteEngine } from "./write_engine.ts";
import { fileExists, isFolder, longName } from "./write_error.ts";

/** How the files replace what is there. */
export interface SetOptions {
  /** Whether files that exist may be replaced. */
  readonly overwrite: boolean;
  /** Whether to wait until everything is on storage. */
  readonly sync: boolean;
  /** Whether pages should go past the page cache. */
  readonly direct: boolean;
  /** Ends the save as long as nothing has been renamed. */
  readonly signal?: AbortSignal | undefined;
}

/** A file of a set. */
export interface SetFile {
  /** The path that it is to get. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
}

/** Files on their way. */
export class AtomicSet {
  /** The files, in the order in which they were given. */
  readonly outputs: readonly OpenOutput[];
  readonly #engine: WriteEngine;
  readonly #folder: string;
  readonly #occupied: readonly string[];
  readonly #options: SetOptions;
  #isLeftToOthers = false;

  private constructor(
    engine: WriteEngine,
    folder: string,
    outputs: readonly OpenOutput[],
    occupied: readonly string[],
    options: SetOptions,
  ) {
    this.#engine = engine;
    this.#folder = folder;
    this.outputs = outputs;
    this.#occupied = occupied;
    this.#options = options;
  }

  /**
   * Creates the files under temporary names, with their space reserved. What processes that are gone have left in the
   * folder is finished or removed.
   *
   * @param files all in one folder
   * @param occupied more paths at which there must be nothing, unless it may be replaced
   * @throws {SafeTensorsError} "FileExists" if there is something and it may not be replaced
   * @throws {WriteError} if the system refuses
   */
  static async create(
    engine: WriteEngine,
    files: readonly SetFile[],
    occupied: readonly string[],
    options: SetOptions,
  ): Promise<AtomicSet> {
    const folder = folderOf(files[0]!.path);
    await requireWritePermission(folder);
    for (const { path } of files) if (hasLongName(path)) throw longName(path);
    const outputs: OpenOutput[] = [];
    const all = [...new Set([...files.map(({ path }) => path), ...occupied])];
    const set = new AtomicSet(engine, folder, outputs, all, options);
    try {
      {
        using _lock = await lockFolder(folder, options.signal);
        await finishCommit(folder);
        await removeAbandoned(folder);
        await set.#checkOccupied();
        for (const { path } of files) {
          outputs.push(await engine.create(`${folder}/${temporaryName()}`, path, options.direct));
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
   * Lets the files appear under their names, in their order; everything must be written.
   *
   * @param findSuperseded gives the files that the set replaces under other names
   * @throws {SafeTensorsError} "FileExists" if one has come into being meanwhile and may not be replaced
   * @throws {WriteError} if the system refuses; what was there has been put back
   */
  async commit(findSuperseded: () => Promise<readonly string[]>): Promise<void> {
    const { sync, overwrite, signal } = this.#options;
    if (sync) await settleAll(this.outputs.map((output) => output.sync()));
    using _lock = await lockFolder(this.#folder, signal);
    await finishCommit(this.#folder);
    await this.#checkOccupied();
    const old = overwrite ? await this.#existing(await findSuperseded()) : [];
    signal?.throwIfAborted();
    const [output] = this.outputs;
    if (this.outputs.length === 1 && old.every((path) => path === output!.target)) {
      await this.#replace(output!, old.length === 0);
    } else {
      await this.#exchange(old);
    }
    this.#close();
  }

  /** Removes everything that was written. */
  async discard(): Promise<void> {
    this.#close();
    if (this.#isLeftToOthers) return;
    for (const { path } of this.outputs) await removeQuietly(path);
  }

  /** Renames the only file, over what has its name: at no time is there none. */
  async #replace({ path, target }: OpenOutput, isNew: boolean): Promise<void> {
    const { sync, overwrite } = this.#options;
    if (!sync) return await this.#engine.rename(path, target, overwrite);
    const kept = `${this.#folder}/${temporaryName()}`;
    // A second name for the old file as long as the new one may yet fail, where the file system has such a thing.
    const isKept = !isNew && await Deno.link(target, kept).then(() => true, () => false);
    try {
      await this.#engine.rename(path, target, overwrite);
      await this.#engine.syncFolder(this.#folder).catch(async (error) => {
        if (isKept) await this.#engine.rename(kept, target, true);
        else if (isNew) await this.#engine.rename(target, path, true);
        throw error;
      });
    } finally {
      if (isKept) await removeQuietly(kept);
    }
  }

  /** Hides the old files and gives the new ones their names; or puts everything back. */
  async #exchange(old: readonly string[]): Promise<void> {
    const hide = old.map((path): Rename => [nameOf(path), temporaryName()]);
    const place = this.outputs.map(({ path, target }): Rename => [nameOf(path), nameOf(target)]);
    const done: Rename[] = [];
    try {
      await this.#writeJournal({ hide, place });
      for (const [from, to] of [...hide, ...place]) {
        await this.#rename(from, to);
        done.push([from, to]);
      }
      if (this.#options.sync) await this.#engine.syncFolder(this.#folder);
    } catch (error) {
      await this.#putBack(done, error);
      throw error;
    }
    await removeQuietly(this.#journalPath);
    for (const [, hidden] of hide) await removeQuietly(`${this.#folder}/${hidden}`);
  }

  /** Takes renames back, and the journal away. */
  async #putBack(done: readonly Rename[], cause: unknown): Promise<void> {
    this.#isLeftToOthers = true; // as long as the journal is there, for it counts on all these files
    try {
      for (const [from, to] of done.toReversed()) await this.#rename(to, from);
      if (await lookAt(this.#journalPath)) await Deno.remove(this.#journalPath);
    } catch {
      const message =
        `Cannot save to "${this.#folder}", nor put back what was there: the next save there, or the ` +
        `next to open it, completes the new files: ${(cause as Error).message}`;
      throw new WriteError(message, {
        path: this.#folder,
        errno: (cause as Partial<WriteError>).errno ?? 0,
        cause,
      });
    }
    this.#isLeftToOthers = false;
  }

  async #rename(from: string, to: string): Promise<void> {
    const subject = isTemporaryName(to) ? from : to;
    await this.#engine.rename(
      `${this.#folder}/${from}`,
      `${this.#folder}/${to}`,
      false,
      `${this.#folder}/${subject}`,
    );
  }

  async #writeJournal(journal: Journal): Promise<void> {
    const { sync } = this.#options;
    const temporary = `${this.#folder}/${temporaryName()}`;
    const output = await this.#engine.create(temporary, this.#journalPath, false);
    try {
      await output.write(writeJournal(journal), 0, "U8", "U8");
      if (sync) await output.sync();
      await this.#engine.rename(temporary, this.#journalPath, false);
      if (sync) await this.#engine.syncFolder(this.#folder);
    } finally {
      output.close();
      await removeQuietly(temporary);
    }
  }

  get #journalPath(): string {
    return `${this.#folder}/${JOURNAL_NAME}`;
  }

  /** Throws if there is something where it must not be. */
  async #checkOccupied(): Promise<void> {
    for (const path of this.#occupied) {
      const info = await lookAt(path);
      if (info?.isDirectory) throw isFolder(path);
      if (info && !this.#options.overwrite) throw fileExists(path);
    }
  }

  /** Everything that there is of the set's own paths and of others, the index first: without it the rest is no set. */
  async #existing(superseded: readonly string[]): Promise<string[]> {
    const own = this.outputs.map(({ target }) => target);
    const paths = [...new Set([...own, ...superseded])];
    const infos = await Promise.all(paths.map((path) => lookAt(path)));
    const isIndex = (path: string) => path.endsWith(".json") ? 1 : 0;
    return paths.filter((_, index) => infos[index]).sort((a, b) => isIndex(b) - isIndex(a));
  }

  #close(): void {
    for (const output of this.outputs) output.close();
  }
}

/** Waits for all, so that nothing is under way any more when one has failed. */
async function settleAll(calls: readonly Promise<void>[]): Promise<void> {
  await Promise.allSettled(calls);
  await Promise.all(calls);
}

/** The shim does not ask Deno whether it may write: this does, in Deno's own way. */
async function requireWritePermission(folder: string): Promise<void> {
  const { state } = await Deno.permissions.request({ name: "write", path: folder });
  if (state === "granted") return;
  throw new Deno.errors.NotCapable(
    `Requires write access to "${folder}", run again with the --allow-write flag`,
  );
}
