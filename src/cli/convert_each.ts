/**
 * `convert` of a folder of checkpoints that are not one model: each becomes a safetensors file of its own.
 */
import type { SafeTensorsError } from "../../mod.ts";
import { basename, join } from "../base/paths.ts";
import { quote } from "../base/text.ts";
import { type FolderContent, modelsIn, namesOf, PYTORCH } from "../files/model_folder.ts";
import { readError } from "../files/native/local_path.ts";
import { fileStem } from "../pytorch/checkpoint.ts";
import { UsageError } from "./arguments.ts";

/** A checkpoint that was converted, or the reason against it. */
export type Converted<R> =
  | { readonly input: string; readonly report: R }
  | { readonly input: string; readonly error: string };

/** How {@linkcode convertEach} converts a checkpoint. */
export interface EachOptions<R> {
  /** The folder to write to; default is the folder of the checkpoints. */
  readonly output: string | undefined;
  /** Stops after an interrupt. */
  readonly signal: AbortSignal;
  /** Converts one checkpoint; an error is the reason against this checkpoint only, unless it is of wrong usage. */
  convert(input: string, output: string): Promise<R>;
  /** The message of an error. */
  explain(error: unknown): string;
  /** Called after each checkpoint. */
  onConverted(converted: Converted<R>): void;
}

/**
 * Whether the checkpoints of a folder are not one model, by the error of converting it: there are several models, two
 * checkpoints have a tensor of the same name, or one of the files that differ only in a number is bad.
 */
export async function areSeveral(folder: string, error: unknown): Promise<boolean> {
  const { code, path } = error as Partial<SafeTensorsError>;
  if (path === undefined || !(await Deno.stat(folder)).isDirectory) return false;
  const { models } = await contentOf(folder);
  const isOneOfMany = models.some(({ numbered }) => numbered.length > 1 && numbered.includes(basename(path)));
  return isOneOfMany || models.length > 1 && (code === "SeveralModels" || code === "DuplicateName");
}

/**
 * Converts every checkpoint in a folder, and goes on after one that cannot be converted.
 *
 * @throws {UsageError} if an option is wrong
 * @returns all checkpoints, and the files that were left out
 * @throws {Error} if the folder cannot be read or has no checkpoint; or the signal's reason
 */
export async function convertEach<R>(
  folder: string,
  options: EachOptions<R>,
): Promise<{ readonly all: readonly Converted<R>[]; readonly leftOut: readonly string[] }> {
  const { output = folder, signal } = options;
  if (output.endsWith(".safetensors")) {
    throw new UsageError(`-o must be a folder for the checkpoints in ${quote(folder)}, got ${quote(output)}`);
  }
  const { models, leftOut } = await contentOf(folder);
  const names = models.flatMap(namesOf).sort();
  if (names.length === 0) throw new Error(`Cannot convert ${quote(folder)}: no ${PYTORCH.what} is in it`);
  const inputOf = new Map<string, string>();
  const all: Converted<R>[] = [];
  for (const name of names) {
    const input = join(folder, name), path = join(output, `${fileStem(name)}.safetensors`);
    let converted: Converted<R>;
    try {
      const other = inputOf.get(path);
      if (other !== undefined) {
        throw new Error(`Cannot save ${quote(path)}: it is the result of ${quote(other)}`);
      }
      inputOf.set(path, input);
      converted = { input, report: await options.convert(input, path) };
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof UsageError) throw error;
      converted = { input, error: options.explain(error) };
    }
    options.onConverted(converted);
    all.push(converted);
  }
  return { all, leftOut };
}

/** The checkpoints in a folder; hidden files and the state of a training run are left out. */
async function contentOf(folder: string): Promise<FolderContent> {
  const entries = await Array.fromAsync(Deno.readDir(folder)).catch((error) => {
    throw readError(error, "read", folder);
  });
  return modelsIn(entries.filter(({ isDirectory }) => !isDirectory).map(({ name }) => name), PYTORCH);
}
