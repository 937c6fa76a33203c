/** Turns the input of a save into a list of tensors and a stream of their bytes. */
import { describeValue } from "../base/check.ts";
import { SafeTensorsError } from "../base/errors.ts";
import { castTarget } from "../format/cast.ts";
import type { DType } from "../base/dtype.ts";
import { checkSpec } from "../format/header_writer.ts";
import { STEP, type Steps } from "../base/steps.ts";
import { quote } from "../base/text.ts";
import { checkView } from "../device/cpu/elements.ts";
import { castLength } from "../load/request.ts";
import { checkTensor, pairsOf, type TensorInput } from "./views.ts";

/**
 * A tensor that can be saved: its elements in host memory, or a function that copies them there. The memory must
 * not change until it is written, at the latest until the save has ended.
 */
export type SavableTensor =
  | TensorInput
  | {
    /** Element type. */
    readonly dtype: DType;
    /** Elements along each dimension. */
    readonly shape: readonly number[];
    /** Copies the elements to host memory. */
    copyToHost(): Promise<{ readonly data: ArrayBufferView }>;
  }
  | {
    /** Element type. */
    readonly dtype: DType;
    /** Elements along each dimension. */
    readonly shape: readonly number[];
    /** The elements' bytes in parts of whole elements, for a tensor too large for memory. */
    parts(): AsyncIterable<Uint8Array<ArrayBuffer>>;
    /** Called with a part after it is written: its memory can be used for the next one. */
    written?(part: Uint8Array<ArrayBuffer>): void;
  };

/** The description of a tensor before its bytes come. */
export interface TensorShape {
  /** Its name. */
  readonly name: string;
  /** Element type, before a cast by the option `dtype` of a save. */
  readonly dtype: DType;
  /** Elements along each dimension. */
  readonly shape: readonly number[];
  /** The name of another tensor that is the same: that one is written, and this name goes into the metadata. */
  readonly aliasOf?: string;
}

/** An opened model, which has shapes, and streams its tensors. */
export interface SavableModel extends AsyncIterable<readonly [string, SavableTensor]> {
  /** The names of its tensors. */
  keys(): Iterable<string>;
  /** The description of one tensor: in the file, and after loading if the model's options change it. */
  info(name: string): TensorShape & {
    /** Element type after loading. Default: `dtype`. */
    readonly targetDtype?: DType;
    /** Elements along each dimension after loading. Default: `shape`. */
    readonly targetShape?: readonly number[];
  };
}

/** What can be saved. A stream that is not a model needs the option `shapes` or `map`. */
export type SaveInput<T extends SavableTensor = SavableTensor> =
  | Readonly<Record<string, T>>
  | Iterable<readonly [string, T]>
  | AsyncIterable<readonly [string, T]>
  | SavableModel;

/** A tensor to write. */
export interface Item {
  readonly name: string;
  readonly shape: readonly number[];
  /** Element type of the source. */
  readonly from: DType;
  /** Element type in the file. */
  readonly to: DType;
  /** Bytes of the source. */
  readonly sourceBytes: number;
  /** Bytes in the file. */
  readonly fileBytes: number;
}

/** A list and a stream of the same tensors. */
export interface SaveSource {
  /** All tensors of the stream, in the user's order. */
  readonly items: ReadonlyMap<string, Item>;
  /** Skipped names of tensors that are the same memory as another: name → the written name. */
  readonly aliases: ReadonlyMap<string, string>;
  /** Whether the consumer of the stream must dispose its tensors. */
  readonly consumerDisposes: boolean;
  /** The dtype that floating-point tensors are cast to. */
  readonly dtype: DType | undefined;
  /** The tensors; in the order given, if any order is possible. */
  stream(order: readonly string[]): AsyncIterable<readonly [string, SavableTensor]>;
}

/**
 * Checks the input of a save.
 *
 * @param shapes the tensors of a stream
 * @throws {SafeTensorsError} "InvalidTensorView" if data and shape do not fit, "DuplicateName"; and other errors
 *   of the format
 * @throws {TypeError} if the input cannot be saved
 */
export function* sourceSteps(
  input: SaveInput,
  dtype: DType | undefined,
  shapes: Iterable<TensorShape> | undefined,
): Steps<SaveSource> {
  const isStream = isAsync(input);
  if (shapes === undefined && !isStream) return yield* listed(pairsOf(input), dtype);
  const known = shapes === undefined
    ? yield* modelShapes(input as AsyncIterable<unknown>)
    : announced(shapes);
  const items = yield* collect(known, (shape) => itemOf(shape, dtype));
  const aliases = yield* announcedAliases(known);
  for (const name of aliases.keys()) items.delete(name);
  const pairs = isStream ? input as AsyncIterable<readonly [string, SavableTensor]> : pairsOf(input);
  return {
    items,
    aliases,
    consumerDisposes: shapes === undefined,
    dtype,
    async *stream() {
      yield* pairs;
    },
  };
}

/** Whether an input is an asynchronous stream, such as a model. */
export function isAsync(input: SaveInput): input is AsyncIterable<readonly [string, SavableTensor]> {
  return typeof input === "object" && input !== null && Symbol.asyncIterator in input;
}

/** Whether a stream is a model, which knows the shapes of its tensors. */
export function isModel(input: AsyncIterable<unknown>): input is SavableModel {
  return "keys" in input && "info" in input;
}

type Pairs = Iterable<readonly [string, SavableTensor]>;

/** The properties that give a tensor's elements. */
export const DATA_PROPERTIES = ["data", "copyToHost", "parts"] as const;

/** Tensors in a list: they can be written in any order, and aliases are detected. */
function* listed(pairs: Pairs, dtype: DType | undefined): Steps<SaveSource> {
  const byName = new Map<string, SavableTensor>();
  const all = yield* collect(pairs, ([name, tensor]) => {
    checkTensor(name, tensor, DATA_PROPERTIES);
    const item = itemOf({ name, dtype: tensor.dtype, shape: tensor.shape }, dtype);
    if ("data" in tensor) checkLength(item, tensor.data);
    byName.set(name, tensor);
    return item;
  });
  const aliases = yield* findAliases(byName);
  for (const name of aliases.keys()) all.delete(name);
  return {
    items: all,
    aliases,
    consumerDisposes: false,
    dtype,
    async *stream(order) {
      for (const name of order) yield [name, byName.get(name)!];
    },
  };
}

/** Throws unless a view holds exactly the elements of its item, and its memory was not transferred. */
export function checkLength(item: Item, data: unknown): asserts data is ArrayBufferView {
  checkView("write", item.name, item.from, data);
  if (data.byteLength === item.sourceBytes) return;
  const gone = data.buffer instanceof ArrayBuffer && data.buffer.detached;
  throw wrongLength(item, gone ? "its buffer was transferred" : `its data has ${data.byteLength}`);
}

/** The error about a tensor with a wrong number of bytes. */
export function wrongLength({ name, from, shape, sourceBytes }: Item, found: string): SafeTensorsError {
  const message = `Cannot save tensor ${
    quote(name)
  }: ${from} of shape [${shape}] is ${sourceBytes} bytes, ${found}`;
  return new SafeTensorsError("InvalidTensorView", message, { tensor: name });
}

function* modelShapes(model: AsyncIterable<unknown>): Steps<TensorShape[]> {
  if (!isModel(model)) {
    throw new TypeError(
      "Cannot save a stream of tensors: their shapes must be known ahead: pass the option shapes, or map",
    );
  }
  const names = [...model.keys()];
  // If `names` excludes the original of several aliases, the first of them becomes the original.
  const originals = new Map<string, string>();
  for (const name of names) {
    originals.set(name, name);
    if (originals.size % STEP === 0) yield;
  }
  const shapes: TensorShape[] = [];
  for (const name of names) {
    if (shapes.length % STEP === 0) yield;
    const { dtype, shape, aliasOf, targetDtype, targetShape } = model.info(name);
    const original = aliasOf === undefined ? name : originals.getOrInsert(aliasOf, name);
    const tensor = { name, dtype: targetDtype ?? dtype, shape: targetShape ?? shape };
    shapes.push(original === name ? tensor : { ...tensor, aliasOf: original });
  }
  return shapes;
}

function announced(shapes: Iterable<TensorShape>): TensorShape[] {
  if (typeof shapes !== "object" || shapes === null || !(Symbol.iterator in shapes)) {
    throw new TypeError(`shapes must be a list of { name, dtype, shape }, got ${describeValue(shapes)}`);
  }
  return [...shapes];
}

/** The tensor to write. */
export function itemOf({ name, dtype, shape }: TensorShape, wanted: DType | undefined): Item {
  const sourceBytes = checkSpec({ name, dtype, shape });
  const to = castTarget(dtype, wanted);
  return { name, shape, from: dtype, to, sourceBytes, fileBytes: castLength(sourceBytes, dtype, to) };
}

function* collect<T>(given: Iterable<T>, toItem: (one: T) => Item): Steps<Map<string, Item>> {
  const byName = new Map<string, Item>();
  for (const one of given) {
    if (byName.size % STEP === 0) yield;
    const item = toItem(one);
    const { name } = item;
    if (byName.has(name)) {
      const message = `Cannot save: tensor ${quote(name)} is given twice`;
      throw new SafeTensorsError("DuplicateName", message, { tensor: name });
    }
    byName.set(name, item);
  }
  return byName;
}

/** The aliases among the announced tensors; the target of each must not be an alias. */
function* announcedAliases(shapes: readonly TensorShape[]): Steps<Map<string, string>> {
  const own = new Set<string>();
  for (const [index, { name, aliasOf }] of shapes.entries()) {
    if (index % STEP === 0) yield;
    if (aliasOf === undefined) own.add(name);
  }
  const aliases = new Map<string, string>();
  for (const [index, { name, aliasOf }] of shapes.entries()) {
    if (index % STEP === 0) yield;
    if (aliasOf === undefined) continue;
    if (!own.has(aliasOf)) {
      const message = `Cannot save tensor ${quote(name)}: it is announced as the same as ${
        quote(aliasOf)
      }, which is none`;
      throw new SafeTensorsError("TensorNotFound", message, { tensor: name });
    }
    aliases.set(name, aliasOf);
  }
  return aliases;
}

/** Tensors that are the same elements of the same memory: the first name is written, the others refer to it. */
function* findAliases(tensors: ReadonlyMap<string, SavableTensor>): Steps<Map<string, string>> {
  const seen = new Map<unknown, Map<string, string>>();
  const aliases = new Map<string, string>();
  let step = 0;
  for (const [name, tensor] of tensors) {
    if (++step % STEP === 0) yield;
    const { memory, place } = placeOf(tensor);
    const places = seen.get(memory) ?? new Map<string, string>();
    seen.set(memory, places);
    const first = places.get(place);
    if (first === undefined) places.set(place, name);
    else aliases.set(name, first);
  }
  return aliases;
}

/** The identity of a tensor: its memory, and its place there. */
function placeOf(tensor: SavableTensor): { memory: unknown; place: string } {
  const what = `${tensor.dtype} [${tensor.shape}]`;
  if ("data" in tensor) {
    const { buffer, byteOffset, byteLength } = tensor.data;
    return byteLength === 0
      ? { memory: tensor, place: what }
      : { memory: buffer, place: `${byteOffset} ${what}` };
  }
  if ("devicePointer" in tensor && "device" in tensor) {
    return { memory: tensor.device, place: `${tensor.devicePointer} ${what}` };
  }
  return { memory: tensor, place: what };
}
