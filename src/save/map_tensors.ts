/**
 * Changes tensors while they are saved.
 *
 * A header gives the dtypes and shapes of all tensors, but the option `map` returns them one after another. Its results
 * are therefore copied to a temporary file first, and from there to their places.
 */
import { describeValue } from "../base/check.ts";
import type { DType } from "../base/dtype.ts";
import { SafeTensorsError } from "../base/errors.ts";
import type { ProgressCounter } from "../base/progress.ts";
import { quote } from "../base/text.ts";
import { finishInTurns, Turn } from "../base/turn.ts";
import type { MappedTensor, SaveOptions } from "./options.ts";
import type { Scratch } from "./scratch.ts";
import {
  DATA_PROPERTIES,
  isAsync,
  isModel,
  type Item,
  itemOf,
  type SavableTensor,
  type SaveInput,
  type SaveSource,
  sourceSteps,
} from "./source.ts";
import { checkTensor, pairsOf } from "./views.ts";
import { interruptible } from "./write_tensors.ts";

/** The parts of a save that {@linkcode mapTensors} uses. */
export interface MapContext {
  /** The dtype that floating-point tensors are cast to, after the change. */
  readonly dtype: DType | undefined;
  readonly scratch: Scratch;
  readonly progress: ProgressCounter;
  readonly signal: AbortSignal | undefined;
}

/** The input of a save, before its tensors are changed. */
interface Unmapped extends Pick<SaveSource, "aliases" | "consumerDisposes" | "stream"> {
  /** Its tensors, in the user's order; missing for a stream, whose tensors are not known. */
  readonly items?: ReadonlyMap<string, Item>;
}

/** The results of one tensor. */
type Results = (readonly [name: string, tensor: SavableTensor])[];

/**
 * Calls the user's function for every tensor, and copies the results to a temporary file.
 *
 * @throws {TypeError} if a result is not a tensor
 * @throws {SafeTensorsError} "DuplicateName" if two results have one name; and as {@linkcode sourceSteps}
 */
export async function mapTensors(
  input: SaveInput,
  map: NonNullable<SaveOptions["map"]>,
  { dtype, scratch, progress, signal }: MapContext,
): Promise<SaveSource> {
  const { items, aliases, consumerDisposes, stream } = await unmapped(input);
  const inputBytes = items?.values().reduce((sum, { sourceBytes }) => sum + sourceBytes, 0) ?? 0;
  // An estimate for all: the results have the size of the tensors, and each is written twice.
  progress.expect({ tensors: items?.size ?? 0, bytes: 2 * inputBytes });
  const isInMemory = !isAsync(input);
  const tensors = new Map<string, SavableTensor>();
  const mapped = new Map<string, Item[]>();
  const turn = new Turn();
  for await (const [name, tensor] of interruptible(stream([...items?.keys() ?? []]), signal)) {
    await turn.pause();
    try {
      if (aliases.has(name)) continue;
      if (mapped.has(name)) throw duplicate(name, "is given twice");
      checkTensor(name, tensor, DATA_PROPERTIES);
      const results = resultsOf(name, await callOf(() => map(name, tensor), signal));
      const changed = results.map(([key, result]) => {
        checkTensor(key, result, DATA_PROPERTIES);
        return itemOf({ name: key, dtype: result.dtype, shape: result.shape }, dtype);
      });
      mapped.set(name, changed);
      for (const [index, item] of changed.entries()) {
        const [key, result] = results[index]!;
        if (tensors.has(key)) throw duplicate(key, "is the result of two tensors");
        // The caller holds the memory of an unchanged tensor of a record.
        if (isInMemory && result === tensor) tensors.set(key, result);
        else tensors.set(key, await copyOf(item, result, scratch));
      }
      progress.bytes += items?.get(name)?.sourceBytes ?? 0;
      progress.reportNowAndThen();
    } finally {
      if (consumerDisposes) (tensor as Partial<Disposable>)[Symbol.dispose]?.();
    }
  }
  for (const name of items?.keys() ?? []) {
    if (!mapped.has(name)) {
      const message = `Cannot save: tensor ${quote(name)} did not come`;
      throw new SafeTensorsError("TensorNotFound", message, { tensor: name });
    }
  }
  await scratch.finish();
  progress.expect({ tensors: -(items?.size ?? 0), bytes: -inputBytes }); // the save counts the results
  // A model yields its tensors as they land; the files have them in the model's order.
  const order = items ? [...items.keys()] : [...mapped.keys()];
  const results = order.flatMap((name) => mapped.get(name)!);
  return {
    items: new Map(
      results.map((
        { name, shape },
      ) => [name, itemOf({ name, dtype: tensors.get(name)!.dtype, shape }, dtype)]),
    ),
    aliases: mappedAliases(aliases, mapped, tensors),
    consumerDisposes: false,
    dtype,
    async *stream(order) {
      for (const name of order) yield [name, tensors.get(name)!];
    },
  };
}

async function unmapped(input: SaveInput): Promise<Unmapped> {
  if (!isAsync(input) || isModel(input)) return await finishInTurns(sourceSteps(input, undefined, undefined));
  return { aliases: new Map(), consumerDisposes: false, stream: () => input };
}

/** Returns the result of a call of the user's function; an abort does not wait for it. */
async function callOf<R>(call: () => R | Promise<R>, signal: AbortSignal | undefined): Promise<R> {
  signal?.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal!.reason);
  signal?.addEventListener("abort", abort);
  try {
    return await Promise.race([Promise.try(call), aborted.promise]);
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

/**
 * @returns the pairs of name and tensor that a call of the user's function has returned
 * @throws {TypeError} if they are none
 */
function resultsOf(name: string, result: MappedTensor): Results {
  if (result === null) return [];
  if (typeof result !== "object" || ArrayBuffer.isView(result) || Array.isArray(result)) {
    throw new TypeError(
      `Cannot save tensor ${
        quote(name)
      }: map must return a tensor, null to leave it out, or a record of name and ` +
        `tensor, got ${describeValue(result)}`,
    );
  }
  const isTensor = !(result instanceof Map) && typeof (result as { dtype?: unknown }).dtype === "string";
  return isTensor ? [[name, result as SavableTensor]] : [...pairsOf(result as Record<string, SavableTensor>)];
}

/** Copies a result, and releases it if it is on a GPU. */
async function copyOf(item: Item, result: SavableTensor, scratch: Scratch): Promise<SavableTensor> {
  try {
    return await scratch.copy(item, result);
  } finally {
    if (!("data" in result)) (result as Partial<Disposable>)[Symbol.dispose]?.();
  }
}

/** The aliases of tensors that are still written, perhaps with another name. */
function mappedAliases(
  aliases: ReadonlyMap<string, string>,
  mapped: ReadonlyMap<string, readonly Item[]>,
  tensors: ReadonlyMap<string, unknown>,
): Map<string, string> {
  const all = new Map<string, string>();
  for (const [alias, name] of aliases) {
    const results = mapped.get(name)!;
    const written = results.find((item) => item.name === name) ?? results[0];
    if (written && !tensors.has(alias)) all.set(alias, written.name);
  }
  return all;
}

function duplicate(name: string, what: string): SafeTensorsError {
  return new SafeTensorsError("DuplicateName", `Cannot save: tensor ${quote(name)} ${what}`, {
    tensor: name,
  });
}
