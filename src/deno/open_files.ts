/**
 * Opening what the user named: by this process alone, or dealt out to the ranks of a group.
 */
import { type Catalog, type ListFile, openCatalog, restoreAliases } from "../files/catalog.ts";
import type { DeviceOption, TensorOn } from "../device/option.ts";
import type { ModelEquipment } from "../model/model.ts";
import { selectDevice } from "./select_device.ts";
import { quote } from "../base/text.ts";
import { checkFiles, dealInputs, type Files, resolveInputs } from "../files/inputs.ts";
import type { Engine } from "../load/engine.ts";
import { PortableEngine } from "../load/portable_engine.ts";
import { selectEngine } from "../load/native/select.ts";
import { type Naming, SAFETENSORS } from "../files/model_folder.ts";
import type { CheckedOptions } from "../model/options.ts";
import { openShared } from "../ranks/shared_catalog.ts";
import { selectSource } from "./select_source.ts";
import type { Source } from "../files/source.ts";
import type { Tensor } from "../load/tensor.ts";

/** What files are loaded with. */
export interface Equipment<T extends Tensor> extends ModelEquipment<T> {
  /** Where they are read from. */
  readonly source: Source;
}

/**
 * Finds what the options ask for.
 *
 * @throws {DeviceError} if this machine does not have it
 */
export async function equip<D extends DeviceOption>(
  options: CheckedOptions,
): Promise<Equipment<TensorOn<D>>> {
  const engine = await findEngine(options);
  return {
    device: await selectDevice(options.device as D, engine, options),
    findDevice: (device) => selectDevice(device, engine, options),
    source: await selectSource(engine, options),
    notes: engine.notes,
  };
}

/** What runs loads: for a source of the user's always the portable engine, as lanes can read descriptors only. */
export async function findEngine({ source }: Pick<CheckedOptions, "source">): Promise<Engine> {
  if (typeof source !== "object") return await selectEngine();
  return new PortableEngine(`the files come from the source ${quote(source.name)}`);
}

/** A kind of files. */
export interface FileKind {
  /** How they are named. */
  readonly naming: Naming;
  /** Lists what is in one. */
  readonly list?: ListFile;
}

/**
 * Opens files. Several ranks open each file once, at one of them; with a shard plan every rank opens them all, as it
 * reads its parts by itself.
 *
 * @param findSource what the files are opened from
 * @throws as {@linkcode openCatalog}, or with several ranks as {@linkcode openShared}
 */
export async function openFiles(
  files: Files,
  options: Pick<CheckedOptions, "group" | "shardPlan" | "signal" | "source" | "restoreAliases">,
  findSource: () => Promise<Source>,
  { naming, list }: FileKind = { naming: SAFETENSORS },
): Promise<Catalog> {
  const { group, shardPlan, signal } = options;
  const withAliases = (catalog: Catalog) => options.restoreAliases ? restoreAliases(catalog) : catalog;
  const own = typeof options.source === "object" ? options.source : null;
  checkFiles(files, group, own !== null);
  if (group.size > 1 && !shardPlan) {
    const prepare = async () => {
      return { source: await findSource(), inputs: await dealInputs(files, group, naming, own) };
    };
    return withAliases(await openShared(group, prepare, signal, list));
  }
  signal?.throwIfAborted();
  const source = await findSource();
  const inputs = await resolveInputs(files, group, naming, own);
  const catalog = withAliases(await openCatalog(source, inputs, signal, list));
  const notes = shardPlan?.notesOn(catalog.tensors.keys()) ?? [];
  return { ...catalog, notes: [...catalog.notes, ...notes] };
}
