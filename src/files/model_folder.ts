/**
 * Which files of a folder are the model.
 *
 * A folder as people have it also holds the state of a training run, the same weights in other precisions or for other
 * programs, and what operating systems leave behind. The names decide, as they do for the tools of Hugging Face; what
 * they do not decide is the user's choice, and an error that lists the choices.
 */
import { SafeTensorsError } from "../base/errors.ts";
import { quote } from "../base/text.ts";
import { join } from "../base/paths.ts";

/** How a family of model files is named. */
export interface Naming {
  /** What the files are. */
  readonly format: "safetensors" | "pytorch";
  /** What one of them is called in messages. */
  readonly what: string;
  /** Suffixes of the files, in lower case; of two that end a name the longer stands first. */
  readonly files: readonly string[];
  /** Suffix of an index. */
  readonly index: string;
  /** What the files of a model are called before `-00001-of-00002` and the suffix; the most usual first. */
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

/** Files of a training run that are not weights, as Trainer, accelerate and DeepSpeed name them. */
const TRAINING =
  /^(optimizer|scheduler|lr_scheduler|scaler|grad_scaler|rng_state|random_states|training_args|dl_state_dict)|_optim_states\./i;

/** Another edition of the same weights, where the plain one may be missing: `model.fp16.safetensors`. */
const VARIANT = /\.(fp32|fp16|bf16|fp8\w*|f32|f16|int8|int4|8bit|4bit|ema|non_ema|ema_only|pruned)$/i;

/** The files of one model in a folder, by one stem: whole, or in shards. */
export interface ModelFiles {
  /** What the names have in common. */
  readonly stem: string;
  /** The part of the stem that says which edition it is; empty for the plain one. */
  readonly variant: string;
  /** The index beside them. */
  index?: string;
  /** Those whose names are not numbered. */
  readonly whole: string[];
  /** Shards by the count that their names give: number → name. */
  readonly shards: Map<number, Map<number, string>>;
  /** Those that are numbered without a count. */
  readonly numbered: string[];
}

/** What stands in a folder. */
export interface FolderContent {
  /** The models, by their names; those that begin with one of the usual stems first. */
  readonly models: ModelFiles[];
  /** Files of the family that belong to no model: hidden ones, and those of a training run. */
  readonly leftOut: readonly string[];
}

/** Sorts the names in a folder into models. */
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

/** The parts of a name; null if the file is not of this family. */
function partOf(name: string, { files, index }: Naming) {
  const lower = name.toLowerCase();
  // As transformers names the index of a variant: model.safetensors.index.fp16.json
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

/** The stem of which this one is a variant, if it is one. */
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

/** Usual names first, then those that an index lists, then strangers, then Mistral's own files, then variants. */
function rankOf(model: ModelFiles, naming: Naming): number {
  const { stems } = naming;
  if (isUsual(model, naming)) return stems.indexOf(model.stem.toLowerCase());
  if (model.variant !== "") return stems.length + 3;
  if (/^consolidated/i.test(model.stem)) return stems.length + 2;
  return model.index === undefined ? stems.length + 1 : stems.length;
}

/**
 * The one model that is meant: the usual one, else the only one.
 *
 * @throws {SafeTensorsError} if there are several
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
 * The files of a model without an index.
 *
 * @param complete whether shards that are missing are an error
 * @throws {SafeTensorsError} "MissingShard"
 */
export function filesOf(folder: string, { whole, shards, numbered }: ModelFiles, complete = true): string[] {
  if (whole.length > 0) return [whole[0]!]; // another one has another suffix, or other capitals
  const sets = [...shards].sort(([, a], [, b]) => b.size - a.size);
  const set = sets.find(([count, names]) => names.size >= count) ?? sets[0];
  if (!set) return numbered;
  const [count, names] = set;
  if (complete && names.size < count) throw missingOf(folder, count, names);
  return [...names].sort(([a], [b]) => a - b).map(([, name]) => name);
}

/** The names of all files of a model but its index. */
export function namesOf({ whole, shards, numbered }: ModelFiles): string[] {
  return [...whole, ...shards.values().flatMap((names) => names.values()), ...numbered];
}

/** Whether all files of a model are there. */
export function isWhole(model: ModelFiles): boolean {
  const { whole, shards, numbered } = model;
  if (whole.length > 0 || (shards.size === 0 && numbered.length > 0)) return true;
  return [...shards].some(([count, names]) => names.size >= count);
}

/** The error about shards of which some are missing, and that no index lists. */
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
  // Some tools count from 0, most from 1: of 1 and 2 of 3 nobody knows whether 0 or 3 is missing.
  const either = least === 1 && missing > most ? `${quote(pathOf(0))} or ` : "";
  const message =
    `Cannot open ${quote(folder)}: ${names.size} of ${count} shards are there, ${either}${
      quote(path)
    } is not, ` +
    "and there is no index: was a download interrupted?";
  return new SafeTensorsError("MissingShard", message, { path });
}

/** Some of these words, and how many others there are. */
export function listOf(words: readonly string[], most = 5): string {
  const shown = words.slice(0, most).join(", ");
  return words.length > most ? `${shown} and ${words.length - most} others` : shown;
}
