/**
 * Names of files on servers and of local files, in one list: each goes to the names of its kind.
 */
import { ReadError } from "../base/errors.ts";
import type { RemoteName } from "./http/host.ts";
import type { FileNames, Found, Index } from "./inputs.ts";
import { indexNaming, missingShard } from "./model_index.ts";
import type { Naming } from "./model_folder.ts";
import type { Source, SourceFile } from "./source.ts";

/** A kind of names of files on servers. */
export interface RemoteKind {
  /** Whether a name is of this kind. */
  matches(name: string): boolean;
  /** Finds the files of a name; see {@linkcode FileNames.resolve}. */
  resolve(name: string, naming: Naming): Promise<Found>;
  /** Returns the file of a path: one that {@linkcode resolve} has returned, or one that a user has named. */
  nameOf(path: string): RemoteName;
}

/** Resolves names of all kinds. */
export class AllNames implements FileNames {
  readonly folder: string | undefined;
  readonly #local: FileNames;
  readonly #kinds: readonly RemoteKind[];

  constructor(local: FileNames, kinds: readonly RemoteKind[]) {
    this.folder = local.folder;
    this.#local = local;
    this.#kinds = kinds;
  }

  resolve(name: string, naming: Naming): Promise<Found> {
    return (this.#kind(name) ?? this.#local).resolve(name, naming);
  }

  identify(name: string): string {
    return this.#kind(name) ? name : this.#local.identify(name);
  }

  explainAbsence(error: unknown, indexes: readonly Index[]): Promise<unknown> {
    if (!(error instanceof ReadError) || !this.#kind(error.path)) {
      return this.#local.explainAbsence(error, indexes);
    }
    if (error.errno !== 2) return Promise.resolve(error);
    const index = indexNaming(error.path, indexes);
    return Promise.resolve(index ? missingShard(error, index) : error);
  }

  #kind(name: string): RemoteKind | undefined {
    return this.#kinds.find((kind) => kind.matches(name));
  }
}

/** Opens files on servers, and local ones by another source. */
export class AllFiles implements Source {
  readonly name = "http";
  readonly #local: Source;
  readonly #kinds: readonly RemoteKind[];
  readonly #remote: Source;
  readonly #moreNotes: readonly string[];

  /**
   * @param remote opens the files of `kinds`
   * @param local opens the others
   * @param notes more notes for the user
   */
  constructor(kinds: readonly RemoteKind[], remote: Source, local: Source, notes: readonly string[] = []) {
    this.#kinds = kinds;
    this.#remote = remote;
    this.#local = local;
    this.#moreNotes = notes;
  }

  get notes(): readonly string[] {
    return [...this.#local.notes ?? [], ...this.#remote.notes ?? [], ...this.#moreNotes];
  }

  open(path: string, folder?: string, isLookedAt?: boolean): Promise<SourceFile> {
    return this.#kind(path) ? this.#remote.open(path) : this.#local.open(path, folder, isLookedAt);
  }

  #kind(path: string): RemoteKind | undefined {
    return this.#kinds.find((kind) => kind.matches(path));
  }
}
