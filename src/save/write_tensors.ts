/**
 * Tensors from where they come to their places in the files.
 */
import { SafeTensorsError } from "../errors.ts";
import { castLength } from "../plan/request.ts";
import type { OutputStream } from "./output_stream.ts";
import type { SaveProgress } from "./progress.ts";
import type { Shard } from "./shards.ts";
import { checkLength, type Item, type SavableTensor, type SaveSource, wrongLength } from "./source.ts";
import type { OpenOutput } from "./write_engine.ts";

/** Where tensors go. */
export interface Destination {
  readonly shards: readonly Shard[];
  /** The files of the shards, in their order. */
  readonly outputs: readonly OpenOutput[];
  readonly stream: OutputStream;
  readonly progress: SaveProgress;
  readonly signal: AbortSignal | undefined;
}

/**
 * Takes every tensor of the source to its place.
 *
 * @throws {SafeTensorsError} "TensorNotFound" if one does not come or nobody has announced it, "DuplicateName" if it
 *   comes twice, "InvalidTensorView" if it has not the bytes that it should have
 * @throws {TypeError} if it has not the dtype that was announced
 */
export async function writeTensors(source: SaveSource, destination: Destination): Promise<void> {
  const { shards, outputs, stream, progress, signal } = destination;
  const places = new Map<string, { output: OpenOutput; offset: number }>();
  for (const [index, { head, header }] of shards.entries()) {
    const output = outputs[index]!;
    await stream.put({ output, offset: 0, from: "U8", to: "U8" }, head);
    for (const { name, begin } of header.tensors.values()) {
      places.set(name, { output, offset: header.dataStart + begin });
    }
  }
  const missing = new Set(places.keys());
  for await (const [name, tensor] of interruptible(source.stream([...missing]), signal)) {
    try {
      if (source.aliases.has(name)) continue;
      const item = source.items.get(name);
      if (!item) throw refusal("TensorNotFound", name, "was not announced");
      if (!missing.delete(name)) throw refusal("DuplicateName", name, "came twice");
      await writeTensor(item, tensor, places.get(name)!, destination);
      progress.tensors++;
    } finally {
      if (source.handsOver) (tensor as Partial<Disposable>)[Symbol.dispose]?.();
    }
  }
  const [first] = missing;
  if (first !== undefined) {
    const others = missing.size > 1 ? `, nor did ${missing.size - 1} more` : "";
    throw refusal("TensorNotFound", first, `was announced and did not come${others}`);
  }
  await stream.finish();
}

async function writeTensor(
  item: Item,
  tensor: SavableTensor,
  { output, offset }: { output: OpenOutput; offset: number },
  { stream }: Destination,
): Promise<void> {
  const { from, to } = item;
  if (tensor.dtype !== from) {
    const remedy = "give the dtype to saveFile, and not to what the tensors come from";
    throw new TypeError(
      `Cannot save tensor "${item.name}": it comes as ${tensor.dtype}, announced was ${from}: ${remedy}`,
    );
  }
  const put = (bytes: Uint8Array<ArrayBuffer>, skip: number, done?: () => void) =>
    stream.put({ output, offset: offset + castLength(skip, from, to), from, to, item }, bytes, done);
  if (!("parts" in tensor)) {
    const { data } = "data" in tensor ? tensor : await tensor.copyToHost();
    checkLength(item, data);
    return await put(new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength), 0);
  }
  let length = 0;
  for await (const part of tensor.parts()) {
    if (length + part.byteLength > item.sourceBytes) throw wrongLength(item, "its parts have more");
    await put(part, length, () => tensor.written?.(part));
    length += part.byteLength;
  }
  if (length < item.sourceBytes) throw wrongLength(item, `its parts have ${length}`);
}

function refusal(code: "TensorNotFound" | "DuplicateName", name: string, what: string): SafeTensorsError {
  return new SafeTensorsError(code, `Cannot save: tensor "${name}" ${what}`, { tensor: name });
}

/** A stream that does not keep an aborted save waiting, even if it gives nothing any more. */
async function* interruptible<T>(
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
    // One that is still to answer, or has failed, is not waited for.
    if (isAsked) end.catch(() => {});
    else await end;
  }
}
