/**
 * A set of files that appears as a whole: everything is written under temporary names, and renamed at the end.
 *
 * A temporary name is `.NAME.fst-XXXXXXXXXXXX.tmp` beside its target, locked while its process lives; the next save
 * to that folder removes those that nobody has locked. Renaming several files is not one step: where files are
 * replaced, a journal `.NAME.fst-commit.json` names what is left to do, and the next save to that path does it.
 */
import type { OpenOutput, WriteEngine } from "./write_engine.ts";
import { fileExists } from "./write_error.ts";

/** How the files replace what is there. */
export interface SetOptions {
  /** Whether files that exist may be replaced. */
  readonly overwrite: boolean;
  /** Whether to wait until everything is on storage. */
  readonly sync: boolean;
}

/** Files on their way. */
export class AtomicSet {
  readonly #engine: WriteEngine;
  readonly #path: string;
  readonly #options: SetOptions;
  readonly #files: { readonly target: string; readonly output: OpenOutput }[] = [];

  /** @param path what the user calls the whole */
  constructor(engine: WriteEngine, path: string, options: SetOptions) {
    this.#engine = engine;
    this.#path = path;
    this.#options = options;
  }

  /**
   * Finishes or removes what processes that are gone have left in the folder.
   *
   * @throws {SafeTensorsError} "FileExists" if one of the targets is there and may not be replaced
   */
  async prepare(targets: readonly string[]): Promise<void> {
    await finishJournal(journalPath(this.#path));
    await removeAbandoned(this.#engine, folderOf(this.#path));
    if (this.#options.overwrite) return;
    for (const target of targets) if (await exists(target)) throw fileExists(target);
  }

  /** Opens a file of the set under a temporary name, with its size reserved. */
  async create(target: string, size: number, direct: boolean): Promise<OpenOutput> {
    const random = crypto.getRandomValues(new Uint8Array(6)).toHex();
    const temporary = `${folderOf(target)}/.${nameOf(target)}.fst-${random}.tmp`;
    const output = await this.#engine.create(temporary, direct);
    this.#files.push({ target, output });
    await output.allocate(size);
    return output;
  }

  /**
   * Lets the files appear under their names, in the order in which they were created.
   *
   * @param superseded files that the set replaces under other names: removed once it is there
   * @throws {SafeTensorsError} "FileExists" if one has come into being meanwhile and may not be replaced
   */
  async commit(superseded: readonly string[]): Promise<void> {
    const { overwrite, sync } = this.#options;
    if (sync) await Promise.all(this.#files.map(({ output }) => output.sync()));
    const folder = folderOf(this.#path);
    const journal = overwrite && this.#files.length > 1 ? journalPath(this.#path) : null;
    if (journal) await this.#writeJournal(journal, superseded);
    const renamed: string[] = [];
    try {
      for (const { target, output } of this.#files) {
        await this.#engine.rename(output.path, target, overwrite);
        renamed.push(target);
      }
    } catch (error) {
      // Without overwrite every file renamed so far is new and ours: take it away again.
      if (!overwrite) { for (const target of renamed) await removeQuietly(target); }
      throw error;
    }
    for (const path of superseded) await removeQuietly(path);
    if (sync) await this.#engine.syncFolder(folder);
    if (journal) await removeQuietly(journal);
    this.#close();
  }

  /** Removes everything that was written; harmless after {@linkcode commit}. */
  async discard(): Promise<void> {
    const files = this.#files.map(({ output }) => output.path);
    this.#close();
    for (const path of files) await removeQuietly(path);
  }

  async #writeJournal(path: string, superseded: readonly string[]): Promise<void> {
    const renames = this.#files.map(({ target, output }) => [nameOf(output.path), nameOf(target)]);
    const remove = superseded.map(nameOf);
    const bytes = new TextEncoder().encode(JSON.stringify({ renames, remove }));
    const temporary = await this.#engine.create(`${path}.tmp`, false);
    try {
      await temporary.write(bytes, 0, "U8", "U8");
      if (this.#options.sync) await temporary.sync();
      await this.#engine.rename(temporary.path, path, true);
    } finally {
      temporary.close();
      await removeQuietly(`${path}.tmp`);
    }
  }

  #close(): void {
    for (const { output } of this.#files.splice(0)) output.close();
  }
}

const TEMPORARY = /^\..+\.fst-[0-9a-f]{12}\.tmp$/;

async function removeAbandoned(engine: WriteEngine, folder: string): Promise<void> {
  for await (const { name, isFile } of Deno.readDir(folder)) {
    const path = `${folder}/${name}`;
    if (isFile && TEMPORARY.test(name) && await engine.isAbandoned(path)) await removeQuietly(path);
  }
}

/** Does what a killed process had begun: from here on the new files are complete and the old ones are not. */
async function finishJournal(path: string): Promise<void> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  const { renames, remove } = JSON.parse(text) as { renames: [string, string][]; remove: string[] };
  const folder = folderOf(path);
  for (const [from, to] of renames) {
    try {
      await Deno.rename(`${folder}/${plain(from)}`, `${folder}/${plain(to)}`);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error; // it was renamed before the process ended
    }
  }
  for (const name of remove) await removeQuietly(`${folder}/${plain(name)}`);
  await removeQuietly(path);
}

/** A journal may only name files of its own folder. */
function plain(name: string): string {
  if (name.includes("/") || name === "." || name === "..") throw new Error(`A save journal names "${name}"`);
  return name;
}

function journalPath(path: string): string {
  return `${folderOf(path)}/.${nameOf(path)}.fst-commit.json`;
}

function folderOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? "." : slash === 0 ? "/" : path.slice(0, slash);
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

async function removeQuietly(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
