/**
 * Multiplies quantized tensors by their scales while they land: the option `dequantize`.
 *
 * The catalog then has the products as F32 tensors that are assembled, and no scales.
 */
import { dtypeBits } from "../base/dtype.ts";
import { SafeTensorsError } from "../base/errors.ts";
import { STEP, type Steps } from "../base/steps.ts";
import { quote } from "../base/text.ts";
import { Turn } from "../base/turn.ts";
import { type Catalog, type CatalogTensor, pathOf, type StoredTensor } from "../files/catalog.ts";
import { closeAll, type SourceFile } from "../files/source.ts";
import { isFloatDType } from "../format/cast.ts";
import { type Blocks, findBlocks, isQuantizedDType, multiplyByScale, scaleNames } from "../format/scaled.ts";
import { hostOperations } from "./host_operations.ts";

/** The option `dequantize`: true, or the rows and columns of the blocks. */
export interface DequantizeOptions {
  /** Rows and columns of a block. Default: found from the shape of the scale, 128 where that fits. */
  block?: readonly [rows: number, columns: number];
}

/** Elements that are read at once. */
const PIECE = 2 ** 20;

/** Elements that are multiplied in one turn of the event loop. */
const TURN = 2 ** 18;

/** A quantized tensor and its scale. */
interface ScaledTensor {
  readonly weight: CatalogTensor;
  readonly scale: CatalogTensor;
  readonly blocks: Blocks;
}

/**
 * Returns a catalog whose quantized tensors are their products with their scales. A quantized tensor without a scale
 * stays as it is; one whose scale does not fit is refused by its name.
 */
export function* dequantizedSteps(catalog: Catalog, { block }: DequantizeOptions): Steps<Catalog> {
  const scaled = new Map<string, ScaledTensor>();
  const missing = new Map(catalog.missing);
  let step = 0;
  for (const [name, weight] of catalog.tensors) {
    if (++step % STEP === 0) yield;
    if (!isQuantizedDType(weight.dtype)) continue;
    const scaleName = scaleNames(name).find((one) => isScale(catalog.tensors.get(one)));
    if (scaleName === undefined) continue;
    const scale = catalog.tensors.get(scaleName)!;
    missing.set(scaleName, () => scaleIsHidden(scaleName, name));
    try {
      scaled.set(name, { weight, scale, blocks: findBlocks(name, weight.shape, scale.shape, block) });
    } catch (error) {
      const { message } = error as Error;
      missing.set(name, () => new SafeTensorsError("InvalidTensorView", message, { tensor: name }));
    }
  }
  const tensors = new Map<string, CatalogTensor>();
  for (const [name, tensor] of catalog.tensors) {
    if (++step % STEP === 0) yield;
    const found = scaled.get(name);
    if (found) tensors.set(name, product(catalog, found));
    else if (!missing.has(name)) tensors.set(name, tensor);
  }
  const notes = scaled.size > 0 ? [] : ["dequantize: no tensor of 8-bit floats has a scale"];
  return {
    ...catalog,
    tensors,
    missing,
    notes: [...catalog.notes, ...notes],
    async reopen(path) {
      const one = await catalog.reopen(path);
      const products = one.tensors.values().flatMap((tensor) => {
        const found = scaled.get(tensor.name);
        if (!found || pathOf(catalog, found.weight) !== path) return [];
        return [[tensor.name, product(catalog, { ...found, weight: tensor })] as const];
      });
      return { ...one, tensors: new Map([...one.tensors, ...products]) };
    },
  };
}

/** A note on the first tensor that a cast without {@linkcode dequantizedSteps} takes for the numbers of its codes. */
export function* unscaledNoteSteps({ tensors }: Catalog): Steps<string[]> {
  let step = 0;
  for (const [name, { dtype }] of tensors) {
    if (++step % STEP === 0) yield;
    if (!isQuantizedDType(dtype)) continue;
    if (!scaleNames(name).some((one) => isScale(tensors.get(one)))) continue;
    return [
      `The option dtype casts tensors of 8-bit floats without their scales, such as ${quote(name)}: ` +
      "dequantize: true multiplies by them",
    ];
  }
  return [];
}

function isScale(tensor: CatalogTensor | undefined): boolean {
  return tensor !== undefined && isFloatDType(tensor.dtype);
}

function scaleIsHidden(name: string, weight: string): SafeTensorsError {
  const message = `Cannot find tensor ${quote(name)}: it is the scale of tensor ${
    quote(weight)
  }, which the option dequantize multiplies by it`;
  return new SafeTensorsError("TensorNotFound", message, { tensor: name });
}

/** The product of a tensor and its scale, as a tensor that is assembled. */
function product(catalog: Catalog, scaled: ScaledTensor): CatalogTensor {
  const { weight, scale } = scaled;
  const { dtype, byteLength } = weight;
  const assemblePart: StoredTensor["assemblePart"] = async (file, begin, target, signal) => {
    if (target.byteLength === 0) return;
    const inSameFile = pathOf(catalog, scale) === file.path;
    const scales = inSameFile
      ? await readFloats(file, scale, signal)
      : await readElsewhere(catalog, scale, signal);
    await multiply(file, scaled, scales, begin / 4, target, signal);
  };
  return {
    ...weight,
    dtype: "F32",
    byteLength: byteLength * 4, // all quantized dtypes have one byte
    stored: { dtype, byteLength, assemblePart },
    assemble: (file, target, signal) => assemblePart(file, 0, target, signal),
  };
}

/** Reads a whole tensor as F32. */
async function readFloats(
  file: SourceFile,
  tensor: CatalogTensor,
  signal: AbortSignal,
): Promise<Float32Array<ArrayBuffer>> {
  const bytes = new Uint8Array(tensor.byteLength);
  if (tensor.assemble) await tensor.assemble(file, bytes, signal);
  else await file.read(tensor.fileOffset, bytes, signal);
  const floats = new Float32Array(bytes.byteLength / (dtypeBits(tensor.dtype) / 8));
  await hostOperations().cast(bytes, tensor.dtype, new Uint8Array(floats.buffer), "F32");
  return floats;
}

/** Reads a scale from another file than that of its tensor: another rank can have it, and it can be closed already. */
async function readElsewhere(
  catalog: Catalog,
  scale: CatalogTensor,
  signal: AbortSignal,
): Promise<Float32Array<ArrayBuffer>> {
  const { files, tensors } = await catalog.reopen(pathOf(catalog, scale));
  try {
    const found = tensors.get(scale.name);
    if (found?.byteLength === scale.byteLength && found.dtype === scale.dtype) {
      return await readFloats(files[0]!, found, signal);
    }
    const path = pathOf(catalog, scale);
    const message = `Cannot read tensor ${quote(scale.name)} of ${quote(path)}: the file has changed`;
    throw new SafeTensorsError("TensorNotFound", message, { path, tensor: scale.name });
  } finally {
    await closeAll(files);
  }
}

/**
 * Fills `target` with the elements of a tensor from `first` on as F32, multiplied by their scales; reads the next ones
 * meanwhile.
 */
async function multiply(
  file: SourceFile,
  { weight, blocks }: ScaledTensor,
  scales: Float32Array,
  first: number,
  target: Uint8Array<ArrayBuffer>,
  signal: AbortSignal,
): Promise<void> {
  const { dtype, fileOffset, byteLength } = weight;
  let whole: Uint8Array<ArrayBuffer> | undefined;
  if (weight.assemble) await weight.assemble(file, whole = new Uint8Array(byteLength), signal);
  const stop = first + target.byteLength / 4;
  const read = async (begin: number) => {
    const end = Math.min(stop, begin + PIECE);
    if (whole) return whole.subarray(begin, end);
    const piece = new Uint8Array(end - begin);
    await file.read(fileOffset + begin, piece, signal);
    return piece;
  };
  const turn = new Turn();
  let next = read(first);
  try {
    for (let begin = first; begin < stop; begin += PIECE) {
      const piece = await next;
      if (begin + PIECE < stop) next = read(begin + PIECE);
      next.catch(() => {}); // the next round reports it
      signal.throwIfAborted();
      const floats = target.subarray((begin - first) * 4, (begin - first + piece.byteLength) * 4);
      await hostOperations().cast(piece, dtype, floats, "F32");
      const values = new Float32Array(floats.buffer, floats.byteOffset, piece.byteLength);
      for (let at = 0; at < values.length; at += TURN) {
        await turn.pause();
        multiplyByScale(values.subarray(at, at + TURN), begin + at, scales, blocks);
      }
    }
  } finally {
    await next.catch(() => {}); // the file can be closed after this
  }
  await file.verify?.();
}
