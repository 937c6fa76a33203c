/**
 * Selects the files of a folder that belong to the model.
 *
 * A folder often also has the state of a training run, the same weights in other precisions or for other programs, and
 * files of operating systems. The selection depends on the names only, as in the tools of Hugging Face. If the names allow
 * several models, an error lists them for the user.
 */
import { SafeTensorsError } from "../base/errors.ts";
import { quote } from "../base/text.ts";
import { join } from "../base/paths.ts";

/** The names of a kind of model files. */
export interface Naming {
  /** The kind of the files. */
  readonly format: "safetensors" | "pytorch";
  /** The name of one file of this kind, in messages. */
  readonly what: string;
  /** Suffixes of the files, in lower case; a suffix that ends with another one comes before it. */
  readonly files: readonly string[];
  /** Suffix of an index. */
  readonly index: string;
  /** Usual names before `-00001-of-00002` and the suffix; the most common one first. */
  readonly stems: readonly string[];
}

/** Safetensors files. */
export const SAFETENSORS: Naming = {
  format: "safetensors",
  what: ".safetensors file",
  files: [".safetensors", ".sft"],
  index: ".safetensors.index.json",
  stems: ["model", "diffusion_pytorch_model", "adapter_model", "pytorch_model"],
};

/** PyTorch checkpoints. */
export const PYTORCH: Naming = {
  format: "pytorch",
  what: "PyTorch checkpoint (.bin, .pt, .ckpt, …)",
  files: [".pth.tar", ".pt.tar", ".bin", ".pt", ".pth", ".ckpt", ".th", ".t7"],
  index: ".bin.index.json",
  stems: ["pytorch_model", "model", "diffusion_pytorch_model", "adapter_model"],
};

/** Names of files that are not weights, of training runs with Trainer, accelerate and DeepSpeed. */
const TRAINING =
  /^(optimizer|scheduler|lr_scheduler|scaler|grad_scaler|rng_state|random_states|training_args|dl_state_dict)|_optim_states\./i;

/** A variant of the same weights, such as `model.fp16.safetensors`; the plain file can be missing. */
const VARIANT = /\.(fp32|fp16|bf16|fp8\w*|f32|f16|int8|int4|8bit|4bit|ema|non_ema|ema_only|pruned)$/i;

/** The files of one model in a folder, which have one stem: a whole file, or shards. */
export interface ModelFiles {
  /** The common beginning of the names. */
  readonly stem: string;
  /** The part of the stem that names the variant; empty for the plain model. */
  readonly variant: string;
  /** The index in the same folder. */
  index?: string;
  /** Files without a number in their names. */
  readonly whole: string[];
  /** Shards, by the count in their names: number → name. */
  readonly shards: Map<number, Map<number, string>>;
  /** Files with a number but no count in their names. */
  readonly numbered: string[];
}

/** The model files in a folder. */
export interface FolderContent {
  /** The models, by name; usual stems first. */
  readonly models: ModelFiles[];
  /** Files of this kind that do not belong to a model: hidden files, and files of a training run. */
  readonly leftOut: readonly string[];
}

/** Groups the names in a folder by model. */
export function modelsIn(names: readonly string[], naming: Naming): FolderContent {
  const leftOut: string[] = [];
  const stems = new Map<string, { name: string; number?: number; count?: number; index: boolean }[]>();
  for (const name of names.toSorted()) {
    const part = partOf(name, naming);
    if (!part) continue;
    if (name.startsWith(".") || TRAINING.test(name)) {
      if (!part.index) leftOut.push(name);
      continue;
    }
    stems.set(part.stem, [...stems.get(part.stem) ?? [], part]);
  }
  const models = Array.from(stems, ([stem, parts]): ModelFiles => {
    const base = baseOf(stem, stems, naming);
    const model: ModelFiles = {
      stem,
      variant: base === undefined ? "" : stem.slice(base.length + 1),
      whole: [],
      shards: new Map(),
      numbered: [],
    };
    for (const { name, number, count, index } of parts) {
      if (index) model.index = name;
      else if (number === undefined) model.whole.push(name);
      else if (count === undefined) model.numbered.push(name);
      else model.shards.set(count, (model.shards.get(count) ?? new Map()).set(number, name));
    }
    return model;
  });
  return { models: models.sort((a, b) => rankOf(a, naming) - rankOf(b, naming)), leftOut };
}

/** Returns the parts of a name; null if the file is of another kind. */
function partOf(name: string, { files, index }: Naming) {
  const lower = name.toLowerCase();
  // transformers names the index of a variant model.safetensors.index.fp16.json
  const [, variant] = /\.index\.([\w-]+)\.json$/i.exec(name) ?? [];
  const indexSuffix = variant === undefined ? index : index.replace(/json$/, `${variant.toLowerCase()}.json`);
  if (lower.endsWith(indexSuffix)) {
    const stem = name.slice(0, -indexSuffix.length);
    return { name, stem: variant === undefined ? stem : `${stem}.${variant}`, index: true };
  }
  const suffix = files.find((suffix) => lower.endsWith(suffix));
  if (suffix === undefined) return null;
  const stem = name.slice(0, -suffix.length);
  const shard = /^(.*)-(\d+)-of-(\d+)(\.[\w-]+)?$/.exec(stem);
  if (shard) {
    const [, base, number, count, variant = ""] = shard;
    return { name, stem: base + variant, number: Number(number), count: Number(count), index: false };
  }
  const [, base, number] = /^(.*[^-_.\d])[-_.](\d+)$/.exec(stem) ?? [];
  if (base === undefined) return { name, stem, index: false };
  return { name, stem: base, number: Number(number), index: false };
}

/** Returns the stem of which this one is a variant, if it is a variant. */
function baseOf(stem: string, stems: ReadonlyMap<string, unknown>, naming: Naming): string | undefined {
  for (let dot = stem.indexOf("."); dot > 0; dot = stem.indexOf(".", dot + 1)) {
    const base = stem.slice(0, dot);
    if (stems.has(base) || naming.stems.includes(base.toLowerCase())) return base;
  }
  return VARIANT.test(stem) ? stem.replace(VARIANT, "") : undefined;
}

/** Whether the files have one of the usual names. */
export function isUsual({ stem }: Pick<ModelFiles, "stem">, { stems }: Naming): boolean {
  return stems.includes(stem.toLowerCase());
}

/** Orders models: usual names, models of an index, other names, Mistral's own files, variants. */
function rankOf(model: ModelFiles, naming: Naming): number {
  const { stems } = naming;
  if (isUsual(model, naming)) return stems.indexOf(model.stem.toLowerCase());
  if (model.variant !== "") return stems.length + 3;
  if (/^consolidated/i.test(model.stem)) return stems.length + 2;
  return model.index === undefined ? stems.length + 1 : stems.length;
}

/**
 * Returns the model to open: the one with a usual name, else the only one.
 *
 * @throws {SafeTensorsError} if there are several models
 */
export function chooseModel(
  folder: string,
  models: readonly ModelFiles[],
  naming: Naming,
): ModelFiles | undefined {
  const [first] = models;
  if (!first) return undefined;
  const rank = rankOf(first, naming);
  const equals = models.filter((model) => rankOf(model, naming) === rank);
  if (equals.length === 1) return first;
  const names = equals.map((model) => quote(model.index ?? filesOf(folder, model, false)[0]!));
  const message = `Cannot choose a model in ${quote(folder)}: there are ${listOf(names)}`;
  throw new SafeTensorsError("SeveralModels", message, { path: folder, advice: "open one of them" });
}

/**
 * Returns the files of a model without an index.
 *
 * @param complete whether missing shards are an error
 * @throws {SafeTensorsError} "MissingShard"
 */
export function filesOf(folder: string, { whole, shards, numbered }: ModelFiles, complete = true): string[] {
  if (whole.length > 0) return [whole[0]!]; // other files differ only in the suffix or in upper case
  const sets = [...shards].sort(([, a], [, b]) => b.size - a.size);
  const set = sets.find(([count, names]) => names.size >= count) ?? sets[0];
  if (!set) return numbered;
  const [count, names] = set;
  if (complete && names.size < count) throw missingOf(folder, count, names);
  return [...names].sort(([a], [b]) => a - b).map(([, name]) => name);
}

/** Returns the names of all files of a model except its index. */
export function namesOf({ whole, shards, numbered }: ModelFiles): string[] {
  return [...whole, ...shards.values().flatMap((names) => names.values()), ...numbered];
}

/** Whether all files of a model exist. */
export function isWhole(model: ModelFiles): boolean {
  const { whole, shards, numbered } = model;
  if (whole.length > 0 || (shards.size === 0 && numbered.length > 0)) return true;
  return [...shards].some(([count, names]) => names.size >= count);
}

/** Makes the error for a set of shards without an index of which some are missing. */
function missingOf(folder: string, count: number, names: ReadonlyMap<number, string>): SafeTensorsError {
  const [least, most] = [Math.min(...names.keys()), Math.max(...names.keys())];
  const pathOf = (number: number) =>
    join(
      folder,
      names.get(least)!.replace(
        /-(\d+)-of-(?=\d+)/,
        (_, digits: string) => `-${String(number).padStart(digits.length, "0")}-of-`,
      ),
    );
  let next = least;
  while (names.has(next)) next++;
  const missing = least > 1 ? 1 : next;
  const path = pathOf(missing);
  // Some tools count from 0, most from 1: with shards 1 and 2 of 3, either 0 or 3 is missing.
  const either = least === 1 && missing > most ? `${quote(pathOf(0))} or ` : "";
  const message =
    `Cannot open ${quote(folder)}: ${names.size} of ${count} shards exist, ${either}${quote(path)} is not, ` +
    "and there is no index: was a download interrupted?";
  return new SafeTensorsError("MissingShard", message, { path });
}

/** Lists some of the words, and the number of the others. */
export function listOf(words: readonly string[], most = 5): string {
  const shown = words.slice(0, most).join(", ");
  return words.length > most ? `${shown} and ${words.length - most} others` : shown;
}
