/**
 * The models, tensors and dtypes that the user named.
 */
import {
  type DeviceOption,
  fastsafeOpen,
  isDType,
  type OpenOptions,
  SafeTensorsError,
  type SafeTensorsModel,
  type Tensor,
  type TensorOn,
} from "../../mod.ts";
import { type DType, dtypeMeant, type FloatDType, tensorBytes } from "../base/dtype.ts";
import { quote } from "../base/text.ts";
import { PYTORCH } from "../files/model_folder.ts";
import { type CheckpointOptions, openPyTorch } from "../pytorch/mod.ts";
import { type Arguments, UsageError } from "./arguments.ts";
import { namingOf } from "./checkpoints.ts";
import type { Option } from "./command.ts";

/** The arguments of commands that open a model. */
export const MODEL_INPUTS = "<file|dir|index.json|url>…";

/** The option `--names`, for {@linkcode nameFilter}. */
export const NAMES: Option = {
  kind: "list",
  value: "GLOB",
  help: "only these tensors; * and ? are wildcards; may be given several times",
};

/** The option `--dtype`, for {@linkcode dtypeOf}. */
export const DTYPE: Option = {
  kind: "text",
  value: "T",
  help: "cast floating tensors on the way: F32, F16, BF16, F64, F8_E4M3, F8_E5M2, …",
  choices: ["F32", "F16", "BF16", "F64", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"],
};

/**
 * Opens the model that the user named: safetensors files or PyTorch checkpoints, by their content; see
 * {@linkcode asUsage}.
 */
export async function openModel<D extends DeviceOption = "cpu">(
  inputs: readonly string[],
  options: OpenOptions<D> & CheckpointOptions = {},
): Promise<SafeTensorsModel<TensorOn<D>>> {
  const [first, second] = inputs;
  if (first === undefined) throw new UsageError("No file, folder or index was named");
  const { root, limits, ...others } = options;
  const isCheckpoint = await namingOf(inputs) === PYTORCH;
  if (!isCheckpoint && (root !== undefined || limits !== undefined)) {
    const given = root === undefined ? "limit" : "root";
    throw new UsageError(`--${given} is for PyTorch checkpoints, and ${quote(first)} is not one`);
  }
  const files = second === undefined ? first : inputs;
  try {
    return await asUsage(() =>
      isCheckpoint ? openPyTorch(files, options) : fastsafeOpen(files, others as OpenOptions<D>)
    );
  } catch (error) {
    if (second === undefined || !(error instanceof SafeTensorsError) || !error.format) throw error;
    const kind = error.format === "pytorch" ? "a PyTorch checkpoint" : "a safetensors file";
    throw new UsageError(
      `Cannot open these files as one model: ${quote(error.path!)} is ${kind}, and others are not`,
      { cause: error },
    );
  }
}

/** Notes without the one on the portable engine, which the library has written to stderr. */
export function withoutEngine(notes: readonly string[]): string[] {
  return notes.filter((note) => !note.startsWith("Portable engine"));
}

/** The notes of a model on its files. */
export function fileNotes(model: SafeTensorsModel<Tensor>): string[] {
  return withoutEngine(model.stats().notes);
}

/** Turns the library's TypeError and RangeError for wrong values of options into wrong usage of the command. */
export async function asUsage<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof RangeError)) throw error;
    throw new UsageError(error.message, { cause: error });
  }
}

/** The dtype that `--dtype` names, in upper or lower case; the library checks whether a cast to it is possible. */
export function dtypeOf(args: Arguments): FloatDType | undefined {
  const given = args.text("dtype");
  const dtype = given?.toUpperCase();
  if (dtype === undefined || isDType(dtype)) return dtype as FloatDType | undefined;
  const meant = dtypeMeant(given!);
  throw new UsageError(`There is no dtype ${quote(given!)}${meant ? `: did you mean ${meant}?` : ""}`);
}

/** The tensors of a load as they lie in memory. */
export interface InMemory {
  /** Bytes of the tensors in memory, after a cast; names of one tensor count once. */
  readonly memoryBytes: number;
  /** Dtype in the files → dtype in memory. */
  readonly dtypes: ReadonlyMap<DType, DType>;
}

/** The tensors of a model as they lie in memory. */
export function inMemory(model: SafeTensorsModel<Tensor>): InMemory {
  const dtypes = new Map<DType, DType>();
  let memoryBytes = 0;
  for (const name of model.keys()) {
    const { dtype, shape, aliasOf, targetDtype = dtype, targetShape = shape } = model.info(name);
    dtypes.set(dtype, targetDtype);
    if (aliasOf === undefined) memoryBytes += tensorBytes(targetDtype, targetShape);
  }
  return { memoryBytes, dtypes };
}

/**
 * Describes a cast: "F16, BF16 cast to F32"; empty without a cast.
 *
 * @param dtypes dtype in the files → dtype of the result
 */
export function describeCasts(dtypes: ReadonlyMap<DType, DType>): string {
  const casts = [...dtypes].filter(([from, to]) => from !== to);
  const [first] = casts;
  return first === undefined ? "" : `${casts.map(([from]) => from).join(", ")} cast to ${first[1]}`;
}

/**
 * A filter for tensor names from patterns; `*` matches any characters and `?` one. Undefined without patterns.
 */
export function nameFilter(patterns: readonly string[]): ((name: string) => boolean) | undefined {
  if (patterns.length === 0) return undefined;
  const any = patterns.map((pattern) =>
    RegExp.escape(pattern).replaceAll("\\*", "[^]*").replaceAll("\\?", "[^]")
  );
  const matcher = new RegExp(`^(?:${any.join("|")})$`, "u");
  return (name) => matcher.test(name);
}

/** Throws if the name filter leaves out every tensor. */
export function requireTensors(model: SafeTensorsModel<Tensor>, patterns: readonly string[]): void {
  if (patterns.length === 0 || model.keys().length > 0) return;
  throw new Error(`Cannot find a tensor: no name matches ${patterns.map((p) => `${quote(p)}`).join(" or ")}`);
}
