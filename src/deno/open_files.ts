/**
 * Opens the files that the user names: in this process, or divided among the ranks of a group.
 */
import type { ProcessGroup } from "../base/process_group.ts";
import { finishInTurns } from "../base/turn.ts";
import { type Catalog, type ListFile, openCatalog, restoreAliases } from "../files/catalog.ts";
import {
  checkFiles,
  dealInputs,
  type FileNames,
  type Files,
  isRemote,
  resolveInputs,
} from "../files/inputs.ts";
import { LocalNames } from "../files/native/local_names.ts";
import { workingFolder } from "../files/native/working_folder.ts";
import { SourceNames } from "../files/source_names.ts";
import { type Naming, SAFETENSORS } from "../files/model_folder.ts";
import type { Source } from "../files/source.ts";
import type { CheckedOpenOptions } from "./options.ts";

/** A kind of files. */
export interface FileKind {
  /** The file names that a folder or an index of this kind uses. */
  readonly naming: Naming;
  /** Lists the tensors of a file. Default: reads the header. */
  readonly list?: ListFile;
}

/** Open files, with their source and device. */
export interface OpenedFiles<E> {
  readonly catalog: Catalog;
  readonly selected: E;
}

/**
 * Opens files. In a group one rank opens each file; with a shard plan every rank opens all files, because it reads its
 * parts itself.
 *
 * @param select finds the source and the device of the files
 * @param folder the folder of relative paths; default is the current working folder
 * @throws as {@linkcode openCatalog}, or with several ranks as {@linkcode openShared}
 */
export async function openFiles<E extends { readonly source: Source }>(
  files: Files,
  options: CheckedOpenOptions,
  select: (options: CheckedOpenOptions) => Promise<E>,
  kind: FileKind = { naming: SAFETENSORS },
  folder: string | undefined = workingFolder(),
): Promise<OpenedFiles<E>> {
  const { group, urls } = options;
  const own = typeof options.source === "object" ? options.source : null;
  const paths = checkFiles(files, group, own !== null || urls !== undefined);
  if (own || !urls && !paths.some(isRemote)) {
    const names = own ? new SourceNames(own, folder) : new LocalNames(folder);
    return await openNamed(files, options, select, kind, names);
  }
  const { openRemote } = await import("./remote.ts");
  using remote = await openRemote(paths, options, folder);
  return await openNamed(files, { ...options, source: remote.source }, select, kind, remote.names);
}

async function openNamed<E extends { readonly source: Source }>(
  files: Files,
  options: CheckedOpenOptions,
  select: (options: CheckedOpenOptions) => Promise<E>,
  kind: FileKind,
  names: FileNames,
): Promise<OpenedFiles<E>> {
  const { group, shardPlan, signal } = options;
  if (isGroup(group) && !shardPlan) {
    const { openShared } = await import("../ranks/shared_catalog.ts");
    const prepare = async () => {
      const selected = await select(options);
      return { selected, inputs: await dealInputs(names, files, group, kind.naming) };
    };
    const opened = await openShared(group, prepare, signal, kind.list);
    return { ...opened, catalog: await changed(opened.catalog, options) };
  }
  signal?.throwIfAborted();
  const inputs = await resolveInputs(names, files, group, kind.naming); // before `select`: errors of names do not need the native library
  const selected = await select(options);
  const catalog = await openCatalog(selected.source, inputs, signal, kind.list);
  const notes = [...catalog.notes, ...shardPlan?.notesOn(catalog.tensors.keys()) ?? []];
  return { selected, catalog: await changed({ ...catalog, notes }, options) };
}

/** The catalog with the products of quantized tensors, and with the aliases that a save left out. */
async function changed(opened: Catalog, options: CheckedOpenOptions): Promise<Catalog> {
  const { dequantize, dtype } = options;
  let catalog = opened;
  if (
    dequantize || dtype !== undefined && catalog.tensors.values().some((one) => one.dtype.startsWith("F8"))
  ) {
    const { dequantizedSteps, unscaledNoteSteps } = await import("../load/dequantize.ts");
    catalog = dequantize
      ? await finishInTurns(dequantizedSteps(catalog, dequantize))
      : { ...catalog, notes: [...catalog.notes, ...await finishInTurns(unscaledNoteSteps(catalog))] };
  }
  return options.restoreAliases ? await finishInTurns(restoreAliases(catalog)) : catalog;
}

/** Whether several ranks load together. */
function isGroup(group: CheckedOpenOptions["group"]): group is ProcessGroup {
  return group.size > 1;
}
