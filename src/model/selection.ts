/**
 * What a call selects of a model: tensors by name, rows by position, the metadata of a file.
 */
import { describeValue } from "../base/check.ts";
import { SafeTensorsError } from "../base/errors.ts";
import { type NameSelection, unmatchedSteps } from "../base/names.ts";
import { STEP, type Steps } from "../base/steps.ts";
import type { Catalog } from "../files/catalog.ts";
import { quote } from "../base/text.ts";

/** The names of a model. */
interface Names {
  has(name: string): boolean;
  keys(): Iterable<string>;
}

/**
 * Returns the names that a selection has, each once: in the order of the selection if it lists whole names only, else in
 * that of the model.
 *
 * @param missing makes the error for a name or a pattern that selects none
 */
export function* selectSteps(
  selection: NameSelection,
  names: Names,
  missing: (name: string, isName: boolean) => Error,
): Steps<string[]> {
  const none = yield* unmatchedSteps(selection, names);
  if (none) throw missing(none.text, none.isName);
  if (selection.rules.length > 0 && selection.rules.every(({ isName }) => isName)) {
    return selection.rules.map(({ text }) => text);
  }
  const selected: string[] = [];
  let step = 0;
  for (const name of names.keys()) {
    if (++step % STEP === 0) yield;
    if (selection.has(name)) selected.push(name);
  }
  return selected;
}

/** Like `Object.fromEntries`, in steps. */
export function* recordSteps<R>(pairs: Iterable<readonly [string, R]>): Steps<Record<string, R>> {
  const record: Record<string, R> = {};
  let step = 0;
  for (const [name, value] of pairs) {
    if (++step % STEP === 0) yield;
    if (name !== "__proto__") record[name] = value;
    else Object.defineProperty(record, name, { value, enumerable: true, writable: true, configurable: true });
  }
  return record;
}

/**
 * Returns the metadata of one file, or of all together.
 *
 * @throws {TypeError} as `SafeTensorsModel.metadata`
 */
export function metadataOf(
  files: ReadonlyMap<string, ReadonlyMap<string, string>>,
  path: string | undefined,
): Record<string, string> {
  if (path !== undefined) return Object.fromEntries(files.get(fileOf([...files.keys()], path))!);
  const merged = new Map<string, string>();
  for (const [file, metadata] of files) {
    for (const [key, value] of metadata) {
      if ((merged.get(key) ?? value) === value) merged.set(key, value);
      else {throw new TypeError(
          `Cannot merge the metadata of ${files.size} files: ${quote(file)} has another value for ${
            quote(key)
          }; name a file: metadata(path)`,
        );}
    }
  }
  return Object.fromEntries(merged);
}

/** Finds the one file with a path, or with a path that ends with it, or that it ends with. */
function fileOf(files: readonly string[], path: string): string {
  if (files.includes(path)) return path;
  const given = path.replace(/^(?:\.\/)+/, "");
  const found = files.filter((file) =>
    file.endsWith(`/${given}`) || given.endsWith(`/${file.replace(/^(?:\.\/)+/, "")}`)
  );
  if (found.length === 1) return found[0]!;
  const why = found.length === 0
    ? "it is not a file of this model"
    : `${found.length} files of this model end so`;
  throw new TypeError(`Cannot find the metadata of ${quote(path)}: ${why}; files() lists them`);
}

/** Returns a line such as `SafeTensorsModel: 291 tensors of 4 files, on "cpu"`. */
export function modelLine({ metadata }: Pick<Catalog, "metadata">, tensors: number, device: string): string {
  const counted = (count: number, what: string) => `${count} ${what}${count === 1 ? "" : "s"}`;
  return `SafeTensorsModel: ${counted(tensors, "tensor")} of ${counted(metadata.size, "file")}, on ${
    quote(device)
  }`;
}

/**
 * Turns positions along the first dimension into ranges in the same order; positions that follow each other become one
 * range. No positions become one empty range.
 *
 * @throws {SafeTensorsError} "SliceOutOfRange" if a position is outside of the tensor, or it is a scalar
 * @throws {TypeError} if `indexes` is not a list of integers
 */
export function rowRanges(
  name: string,
  shape: readonly number[],
  indexes: Iterable<number>,
): [start: number, stop: number][] {
  if (typeof indexes !== "object" || indexes === null || !(Symbol.iterator in indexes)) {
    throw new TypeError(`indexes must be a list of integers, got ${describeValue(indexes)}`);
  }
  const length = shape[0];
  if (length === undefined) throw outside(name, "a scalar has none");
  const ranges: [start: number, stop: number][] = [];
  for (const index of indexes) {
    if (!Number.isInteger(index)) {
      throw new TypeError(`indexes must be a list of integers, got one with ${describeValue(index)}`);
    }
    const row = index < 0 ? index + length : index;
    if (row < 0 || row >= length) throw outside(name, `index ${index} is outside of its ${length} rows`);
    const last = ranges.at(-1);
    if (last?.[1] === row) last[1]++;
    else ranges.push([row, row + 1]);
  }
  return ranges.length > 0 ? ranges : [[0, 0]];
}

function outside(name: string, why: string): SafeTensorsError {
  return new SafeTensorsError("SliceOutOfRange", `Cannot get rows of tensor ${quote(name)}: ${why}`, {
    tensor: name,
  });
}
