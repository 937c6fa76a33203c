/**
 * The low-level API with the steps of the Python package: add files, copy them to a device, get tensors.
 */
import { type Catalog, type CatalogTensor, pathOf, restoreAliases } from "../files/catalog.ts";
import { checkKeys, keysOf } from "../base/check.ts";
import type { DeviceOption } from "../base/device_name.ts";
import type { TensorOn } from "../device/tensors.ts";
import { SafeTensorsError, UseAfterCloseError } from "../base/errors.ts";
import { FilesBuffer } from "./files_buffer.ts";
import type { FloatDType } from "../base/dtype.ts";
import { finishNow, STEP, type Steps } from "../base/steps.ts";
import { quote } from "../base/text.ts";
import { finishInTurns } from "../base/turn.ts";
import type { ProcessGroup } from "../base/process_group.ts";
import { handled } from "../base/handled.ts";
import type { PathLike } from "../files/inputs.ts";
import { closeAll, type Source } from "../files/source.ts";
import { findEngine, selectSourceAndDevice } from "../deno/select_source_and_device.ts";
import { openFiles } from "../deno/open_files.ts";
import { type CheckedOpenOptions, checkOptions, OPEN_KEYS, type OpenOptions } from "../deno/options.ts";
import { startModel } from "../model/model.ts";
import { checkGroup } from "../model/options.ts";
import { together } from "../ranks/queue.ts";
import { shareTensors } from "../ranks/rank_tensors.ts";
import { selectSource } from "../deno/select_source.ts";

/** Options of {@linkcode SafeTensorsFileLoader}: those of a load, without the options of an opened model. */
export type LoaderOptions<D extends DeviceOption = DeviceOption> = Omit<
  OpenOptions<D>,
  "lazy" | "names" | "group" | "dtype" | "shardPlan" | "dequantize"
>;

const MODEL_KEYS = keysOf<Omit<OpenOptions, keyof LoaderOptions>>({
  lazy: true,
  names: true,
  group: true,
  dtype: true,
  shardPlan: true,
  dequantize: true,
});

const LOADER_KEYS = OPEN_KEYS.filter((key) => !MODEL_KEYS.includes(key));

const COPY_KEYS = keysOf<{ dtype?: FloatDType }>({ dtype: true });

/**
 * Reads the headers of files, then copies all of their tensors to a device.
 *
 * @example Use
 * ```ts
 * import { serialize } from "@x/fastsafetensors";
 * import { SafeTensorsFileLoader } from "@x/fastsafetensors/compat";
 * import { assertEquals } from "@std/assert";
 *
 * const path = await Deno.makeTempFile({ suffix: ".safetensors" });
 * await Deno.writeFile(path, serialize({ x: { dtype: "I32", shape: [3], data: new Int32Array([1, 2, 3]) } }));
 *
 * const loader = new SafeTensorsFileLoader(null);
 * await loader.addFilenames({ 0: [path] });
 * const buffer = await loader.copyFilesToDevice();
 * assertEquals((await buffer.getTensor("x")).data, new Int32Array([1, 2, 3]));
 * await buffer.close();
 * await loader.close();
 * ```
 */
export class SafeTensorsFileLoader<D extends DeviceOption = "cpu"> implements AsyncDisposable {
  readonly #group: ProcessGroup | undefined;
  readonly #options: LoaderOptions<D>;
  #catalogs: readonly Catalog[] = [];
  /** The catalog of the added files, after the first request for it. */
  #merged: Catalog | null = null;
  /** Settles when all requested copies have started, or failed. */
  #copies: Promise<unknown> = Promise.resolve();
  /** The source of files on servers, if some were added. */
  #remote: Source | undefined;
  #closed = false;

  /**
   * Creates a loader without files.
   *
   * @param group the ranks that load together; null is this process alone
   */
  constructor(group: ProcessGroup | null = null, options: LoaderOptions<D> = {}) {
    this.#group = checkGroup("group", group ?? undefined);
    checkKeys("SafeTensorsFileLoader", options, LOADER_KEYS);
    this.#options = options;
    this.#checked();
  }

  /**
   * Opens files and reads their headers. May be called several times before {@linkcode copyFilesToDevice}.
   *
   * Every rank calls it and gets the catalog of all files, but opens only its own; a rank may have no files. The
   * names of other ranks' files are optional; names given for other ranks must match.
   *
   * @param files by the rank that reads them
   * @throws {SafeTensorsError} if a header is bad, or a name occurs twice
   * @throws {ReadError} if the system refuses
   * @throws {GroupError} on all of several ranks if one cannot open its files, or their arguments disagree
   */
  addFilenames(files: Readonly<Record<number, PathLike | readonly PathLike[]>>): Promise<void> {
    return handled(this.#add(files));
  }

  async #add(files: Readonly<Record<number, PathLike | readonly PathLike[]>>): Promise<void> {
    this.#checkOpen("add files");
    const options = { ...this.#checked(), restoreAliases: false }; // aliases are restored for all files together
    const { catalog, selected: { source } } = await openFiles(files, options, findSource);
    if (source.name === "http") this.#remote = source;
    try {
      await this.#copies; // files return to the loader if their copy fails, and a name may be in one file only
      this.#checkOpen("add files");
      for (const earlier of this.#catalogs) refuseDuplicates(earlier, catalog);
    } catch (error) {
      await closeAll(catalog.files);
      throw error;
    }
    this.#setCatalogs([...this.#catalogs, catalog]);
    const catalogs = this.#catalogs;
    const merged = await finishInTurns(this.#mergeSteps());
    if (this.#catalogs === catalogs) this.#merged = merged;
  }

  /** Replaces the added files. */
  #setCatalogs(catalogs: readonly Catalog[]): void {
    this.#catalogs = catalogs;
    this.#merged = null;
  }

  get #catalog(): Catalog {
    return this.#merged ??= finishNow(this.#mergeSteps());
  }

  *#mergeSteps(): Steps<Catalog> {
    const merged = yield* mergeCatalogs(this.#catalogs);
    return this.#options.restoreAliases ? yield* restoreAliases(merged) : merged;
  }

  /** The names of the tensors in the files added, in file order. */
  getKeys(): string[] {
    return [...this.#catalog.tensors.keys()];
  }

  /**
   * The shape of a tensor in the files added.
   *
   * @throws {SafeTensorsError} "TensorNotFound"
   */
  getShape(name: string): readonly number[] {
    const tensor = this.#catalog.tensors.get(name);
    if (tensor) return tensor.shape;
    throw new SafeTensorsError("TensorNotFound", `Cannot find tensor ${quote(name)} in the files added`, {
      tensor: name,
    });
  }

  /**
   * Allocates memory for all tensors of the files added and starts to read. The buffer owns the files: the
   * loader is empty again and can open new ones.
   *
   * @param options.dtype casts floating-point tensors to this dtype
   * @throws {OutOfMemoryError} if the tensors do not fit: the loader still owns the files
   * @throws {GroupError} on all of several ranks if that happens on one; the files are closed
   */
  copyFilesToDevice(options: { dtype?: FloatDType } = {}): Promise<FilesBuffer<TensorOn<D>>> {
    const copy = handled(this.#copy(options));
    this.#copies = Promise.allSettled([this.#copies, copy]);
    return copy;
  }

  async #copy(options: { dtype?: FloatDType }): Promise<FilesBuffer<TensorOn<D>>> {
    this.#checkOpen("copy files");
    checkKeys("copyFilesToDevice()", options, COPY_KEYS);
    const checked = this.#checked(options);
    const catalog = this.#catalog;
    const catalogs = this.#catalogs;
    this.#setCatalogs([]); // the buffer owns them now
    const start = async () => {
      const selected = {
        ...await selectSourceAndDevice<D>({ ...checked, source: this.#remote ?? checked.source }),
        ...catalog.group && { share: shareTensors },
      };
      return new FilesBuffer(await startModel(catalog, selected, checked));
    };
    try {
      const operation = { label: "copyFilesToDevice()", signal: checked.signal };
      return await together(catalog.group, operation, start, (buffer) => buffer.close());
    } catch (error) {
      if (this.#closed || catalog.group) await closeAll(catalog.files);
      else this.#setCatalogs([...catalogs, ...this.#catalogs]);
      throw error;
    }
  }

  /**
   * Closes the files that no buffer owns, so that others can be added. Waits for requested copies: if they fail,
   * their files are closed as well.
   */
  async reset(): Promise<void> {
    await this.#copies;
    const catalogs = this.#catalogs;
    this.#setCatalogs([]);
    await closeAll(catalogs.flatMap(({ files }) => files));
  }

  /** {@linkcode reset}, and refuses further calls. Buffers stay open until they are closed. */
  close(): Promise<void> {
    this.#closed = true;
    return this.reset();
  }

  /** {@linkcode close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #checked(options: { dtype?: FloatDType } = {}): CheckedOpenOptions {
    return checkOptions({ ...this.#options, ...options, ...this.#group && { group: this.#group } });
  }

  #checkOpen(action: string): void {
    if (this.#closed) throw new UseAfterCloseError(`Cannot ${action}: the loader was closed`);
  }
}

/** Finds the source of the files, without a device. */
async function findSource(options: CheckedOpenOptions): Promise<{ source: Source }> {
  return { source: await selectSource(await findEngine(options), options) };
}

function refuseDuplicates(earlier: Catalog, later: Catalog): void {
  for (const tensor of later.tensors.values()) {
    const first = earlier.tensors.get(tensor.name);
    if (!first) continue;
    const path = pathOf(later, tensor);
    const message = `Cannot add ${quote(path)}: tensor ${quote(tensor.name)} is also in ${
      quote(pathOf(earlier, first))
    }`;
    throw new SafeTensorsError("DuplicateName", message, { path, tensor: tensor.name });
  }
}

function* mergeCatalogs(catalogs: readonly Catalog[]): Steps<Catalog> {
  const [only] = catalogs;
  if (only && catalogs.length === 1) return only;
  const files = catalogs.flatMap((catalog) => catalog.files);
  const tensors = new Map<string, CatalogTensor>();
  let before = 0;
  for (const catalog of catalogs) {
    for (const tensor of catalog.tensors.values()) {
      tensors.set(tensor.name, { ...tensor, file: tensor.file < 0 ? -1 : tensor.file + before });
      if (tensors.size % STEP === 0) yield;
    }
    before += catalog.files.length;
  }
  const metadata = new Map(catalogs.flatMap((catalog) => [...catalog.metadata]));
  const notes = catalogs.flatMap((catalog) => catalog.notes);
  const group = catalogs[0]?.group;
  const reopen = (path: string) => catalogs[0]!.reopen(path); // the file of a tensor, so there is at least one catalog
  return { files, tensors, metadata, notes, reopen, ...group ? { group } : {} };
}
