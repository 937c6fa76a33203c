/** Writes the tensors of a source to their places in the files. */
import { describeValue } from "../base/check.ts";
import { SafeTensorsError } from "../base/errors.ts";
import { castTarget } from "../format/cast.ts";
import { type DType, isDType } from "../base/dtype.ts";
import { STEP } from "../base/steps.ts";
import { quote } from "../base/text.ts";
import { Turn } from "../base/turn.ts";
import { castLength } from "../load/request.ts";
import type { OutputStream } from "./output_stream.ts";
import type { ProgressCounter } from "../base/progress.ts";
import type { Shard } from "./shards.ts";
import {
  checkLength,
  DATA_PROPERTIES,
  type Item,
  itemOf,
  type SavableTensor,
  type SaveSource,
  wrongLength,
} from "./source.ts";
import { checkTensor } from "./views.ts";
import type { OpenOutput } from "./write_engine.ts";

/** The files and places of tensors. */
export interface Destination {
  readonly shards: readonly Shard[];
  /** The files of the shards, in their order. */
  readonly outputs: readonly OpenOutput[];
  readonly stream: OutputStream;
  readonly progress: ProgressCounter;
  readonly signal: AbortSignal | undefined;
}

/**
 * Writes every tensor of the source to its place.
 *
 * @throws {SafeTensorsError} "TensorNotFound" if a tensor does not come or was not announced, "DuplicateName" if
 *   it comes twice, "InvalidTensorView" if it has the wrong number of bytes
 * @throws {TypeError} if its shape was announced differently, or its dtype becomes another one in the file
 */
export async function writeTensors(source: SaveSource, destination: Destination): Promise<void> {
  const { shards, outputs, stream, progress, signal } = destination;
  const turn = new Turn();
  /** Of the tensors that have not come yet. */
  const places = new Map<string, { output: OpenOutput; offset: number }>();
  const order: string[] = [];
  for (const [index, { head, header }] of shards.entries()) {
    const output = outputs[index]!;
    await stream.put({ output, offset: 0, from: "U8", to: "U8" }, head);
    for (const { name, begin } of header.tensors.values()) {
      if (places.size % STEP === 0) await turn.pause();
      places.set(name, { output, offset: header.dataStart + begin });
      order.push(name);
    }
  }
  for await (const [name, tensor] of interruptible(source.stream(order), signal)) {
    if (progress.tensors % 64 === 63) await turn.pause(); // small tensors in memory come without a wait
    try {
      if (source.aliases.has(name)) continue;
      const item = source.items.get(name);
      if (!item) throw refusal("TensorNotFound", name, "was not announced");
      const place = places.get(name);
      if (!place) throw refusal("DuplicateName", name, "came twice");
      places.delete(name);
      await writeTensor(item, tensor, place, destination, source.dtype);
      progress.tensors++;
    } finally {
      if (source.consumerDisposes) (tensor as Partial<Disposable>)[Symbol.dispose]?.();
    }
  }
  const [first] = places.keys();
  if (first !== undefined) {
    const others = places.size > 1 ? `, nor did ${places.size - 1} more` : "";
    throw refusal("TensorNotFound", first, `was announced and did not come${others}`);
  }
  await stream.finish();
}

async function writeTensor(
  announced: Item,
  tensor: SavableTensor,
  { output, offset }: { output: OpenOutput; offset: number },
  { stream, progress }: Destination,
  wanted: DType | undefined,
): Promise<void> {
  checkTensor(announced.name, tensor, DATA_PROPERTIES);
  const item = asItComes(announced, tensor, wanted, progress);
  await putElements(stream, item, tensor, { output, offset });
}

/**
 * Puts the elements of a tensor into a stream, at a place of a file.
 *
 * @param tensor has the form of a tensor
 */
export async function putElements(
  stream: OutputStream,
  item: Item,
  tensor: SavableTensor,
  { output, offset }: { readonly output: OpenOutput; readonly offset: number },
): Promise<void> {
  const { from, to } = item;
  const put = (bytes: Uint8Array<ArrayBuffer>, skip: number, done?: () => void) =>
    stream.put({ output, offset: offset + castLength(skip, from, to), from, to, item }, bytes, done);
  if (!("parts" in tensor)) {
    const { data } = "data" in tensor ? tensor : await tensor.copyToHost();
    checkLength(item, data);
    return await put(new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength), 0);
  }
  let length = 0;
  for await (const part of tensor.parts()) {
    if (!(part instanceof Uint8Array)) {
      throw new TypeError(
        `Cannot write tensor ${quote(item.name)}: parts must be Uint8Arrays, got ${describeValue(part)}`,
      );
    }
    if (length + part.byteLength > item.sourceBytes) throw wrongLength(item, "its parts have more");
    await put(part, length, () => tensor.written?.(part));
    length += part.byteLength;
  }
  if (length < item.sourceBytes) throw wrongLength(item, `its parts have ${length}`);
}

/**
 * The item of a tensor that may come with another dtype than was announced: with the option `dtype` all floats
 * become the same in the file.
 *
 * @throws {TypeError} if its shape was announced differently, or its dtype becomes another one in the file
 */
function asItComes(
  item: Item,
  { dtype, shape }: SavableTensor,
  wanted: DType | undefined,
  progress: ProgressCounter,
): Item {
  const { name, from, to, sourceBytes } = item;
  if (`${shape}` !== `${item.shape}`) {
    const message = `Cannot save tensor ${
      quote(name)
    }: announced with the shape [${item.shape}], came with [${shape}]`;
    throw new TypeError(message);
  }
  if (dtype === from) return item;
  if (!isDType(dtype) || castTarget(dtype, wanted) !== to) {
    throw new TypeError(
      `Cannot save tensor ${quote(name)}: announced as ${from}, came as ${dtype}: announce ${dtype}`,
    );
  }
  const came = itemOf({ name, dtype, shape }, wanted);
  progress.expect({ tensors: 0, bytes: came.sourceBytes - sourceBytes });
  return came;
}

function refusal(code: "TensorNotFound" | "DuplicateName", name: string, what: string): SafeTensorsError {
  return new SafeTensorsError(code, `Cannot save: tensor ${quote(name)} ${what}`, { tensor: name });
}

/** A stream that ends at once on abort, even if its source does not yield any more. */
export async function* interruptible<T>(
  stream: AsyncIterable<T>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T, void, void> {
  const iterator = stream[Symbol.asyncIterator]();
  let isAsked = false;
  let interrupt = (_reason: unknown) => {};
  const abort = () => interrupt(signal!.reason);
  signal?.addEventListener("abort", abort);
  try {
    for (;;) {
      signal?.throwIfAborted();
      isAsked = true;
      const next = await new Promise<IteratorResult<T>>((resolve, reject) => {
        interrupt = reject;
        Promise.resolve(iterator.next()).then(resolve, reject);
      });
      isAsked = false;
      if (next.done) return;
      yield next.value;
    }
  } finally {
    signal?.removeEventListener("abort", abort);
    const end = Promise.resolve(iterator.return?.());
    // Do not wait for a source that has failed, or whose call is still pending.
    if (isAsked) end.catch(() => {});
    else await end;
  }
}
