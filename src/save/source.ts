/**
 * What a user wants saved, as a list of what there is and a stream of bytes.
 */
import { SafeTensorsError } from "../errors.ts";
import { castTarget } from "../format/cast.ts";
import { type DType } from "../format/dtype.ts";
import { castLength } from "../plan/request.ts";
import { byteSize } from "../format/tensor_size.ts";

/** A tensor that can be saved: its elements in host memory, or a way to copy them there. */
export type SavableTensor =
  & {
    /** Element type. */
    readonly dtype: DType;
    /** Elements along each dimension. */
    readonly shape: readonly number[];
  }
  & ({
    /** The elements in row-major order, little-endian. */
    readonly data: ArrayBufferView;
  } | {
    /** Copies the elements to host memory. */
    copyToHost(): Promise<{ readonly data: ArrayBufferView }>;
  } | {
    /** The elements' bytes part by part, for what should not be in memory as a whole; parts hold whole elements. */
    parts(): AsyncIterable<Uint8Array<ArrayBuffer>>;
    /** Called with a part once it is written: its memory can be used for the next one. */
    written?(part: Uint8Array<ArrayBuffer>): void;
  });

/** What is known of a tensor before its bytes come. */
export interface TensorShape {
  /** Its name. */
  readonly name: string;
  /** Element type. */
  readonly dtype: DType;
  /** Elements along each dimension. */
  readonly shape: readonly number[];
}

/** An opened model: it knows its shapes, and streams its tensors. */
export interface SavableModel extends AsyncIterable<readonly [string, SavableTensor]> {
  /** The names of its tensors. */
  keys(): Iterable<string>;
  /** What is known of one. */
  info(name: string): TensorShape;
}

/** What can be saved. A stream that is not a model needs the option `shapes`. */
export type SaveInput =
  | Readonly<Record<string, SavableTensor>>
  | Iterable<readonly [string, SavableTensor]>
  | AsyncIterable<readonly [string, SavableTensor]>
  | SavableModel;

/** A tensor as it will be written. */
export interface Item {
  readonly name: string;
  readonly shape: readonly number[];
  /** Element type of what comes. */
  readonly from: DType;
  /** Element type in the file. */
  readonly to: DType;
  /** Bytes of what comes. */
  readonly sourceBytes: number;
  /** Bytes in the file. */
  readonly fileBytes: number;
}

/** A list and a stream of the same tensors. */
export interface SaveSource {
  /** Everything that will come, in the user's order. */
  readonly items: ReadonlyMap<string, Item>;
  /** Left out because it is the same memory as another: name → the one that is kept. */
  readonly aliases: ReadonlyMap<string, string>;
  /** The tensors; in the order given, if one is. */
  stream(order: readonly string[]): AsyncIterable<readonly [string, SavableTensor]>;
}

/**
 * Looks through what is to be saved.
 *
 * @throws {SafeTensorsError} "InvalidTensorView" if data and shape do not fit, "DuplicateName"
 * @throws {TypeError} if it is nothing that can be saved
 */
export function saveSource(
  input: SaveInput,
  dtype: DType | undefined,
  shapes: Iterable<TensorShape> | undefined,
): SaveSource {
  if (typeof input !== "object" || input === null) {
    throw new TypeError(`Cannot save: tensors must be a record, a map or an iterable, got ${typeof input}`);
  }
  if (Symbol.asyncIterator in input) {
    const known = shapes ?? modelShapes(input);
    const items = collect([...known].map((shape) => itemOf(shape, dtype)));
    return { items, aliases: new Map(), stream: () => input };
  }
  const tensors = new Map<string, SavableTensor>();
  for (const [name, tensor] of Symbol.iterator in input ? input : Object.entries(input)) {
    if (tensors.has(name)) throw duplicate(name);
    tensors.set(name, tensor);
  }
  const aliases = findAliases(tensors);
  for (const name of aliases.keys()) tensors.delete(name);
  const items = collect([...tensors].map(([name, tensor]) => {
    const item = itemOf({ name, dtype: tensor.dtype, shape: tensor.shape }, dtype);
    if ("data" in tensor) checkLength(item, tensor.data);
    return item;
  }));
  return {
    items,
    aliases,
    async *stream(order) {
      for (const name of order) yield [name, tensors.get(name)!];
    },
  };
}

/** Throws unless a view has exactly the bytes of its item, and its memory is still there. */
export function checkLength(item: Item, data: ArrayBufferView): void {
  if (data.byteLength === item.sourceBytes) return;
  const gone = data.buffer instanceof ArrayBuffer && data.buffer.detached;
  const found = gone ? "its buffer was transferred" : `its data has ${data.byteLength}`;
  const message =
    `Cannot save tensor "${item.name}": ${item.from} of shape [${item.shape}] is ${item.sourceBytes} ` +
    `bytes, ${found}`;
  throw new SafeTensorsError("InvalidTensorView", message, { tensor: item.name });
}

function modelShapes(input: AsyncIterable<unknown>): TensorShape[] {
  if (!("keys" in input && "info" in input)) {
    throw new TypeError(
      "Cannot save a stream of tensors: their shapes must be known ahead: pass the option shapes",
    );
  }
  const model = input as SavableModel;
  return [...model.keys()].map((name) => model.info(name));
}

function itemOf({ name, dtype, shape }: TensorShape, wanted: DType | undefined): Item {
  const sourceBytes = byteSize(dtype, shape);
  if (typeof sourceBytes !== "number") {
    const message =
      `Cannot save tensor "${name}": ${dtype} of shape [${shape}] is not a whole number of bytes`;
    throw new SafeTensorsError("InvalidTensorView", message, { tensor: name });
  }
  const to = castTarget(dtype, wanted);
  return { name, shape, from: dtype, to, sourceBytes, fileBytes: castLength(sourceBytes, dtype, to) };
}

function collect(items: readonly Item[]): Map<string, Item> {
  const byName = new Map<string, Item>();
  for (const item of items) {
    if (byName.has(item.name)) throw duplicate(item.name);
    byName.set(item.name, item);
  }
  return byName;
}

function duplicate(name: string): SafeTensorsError {
  return new SafeTensorsError("DuplicateName", `Cannot save: tensor "${name}" is given twice`, {
    tensor: name,
  });
}

/** Tensors that are the same elements of the same memory: the first name is kept, the others point to it. */
function findAliases(tensors: ReadonlyMap<string, SavableTensor>): Map<string, string> {
  const kept = new Map<ArrayBufferLike, Map<string, string>>();
  const aliases = new Map<string, string>();
  for (const [name, tensor] of tensors) {
    if (!("data" in tensor) || tensor.data.byteLength === 0) continue;
    const { buffer, byteOffset, byteLength } = tensor.data;
    const place = `${byteOffset}+${byteLength} ${tensor.dtype} [${tensor.shape}]`;
    const places = kept.get(buffer) ?? new Map<string, string>();
    kept.set(buffer, places);
    const first = places.get(place);
    if (first === undefined) places.set(place, name);
    else aliases.set(name, first);
  }
  return aliases;
}
