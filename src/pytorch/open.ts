/**
 * PyTorch checkpoints through the same door, lanes and devices as safetensors files.
 */
import type { Assemble } from "../assembly.ts";
import type { CatalogTensor, FileContents, ListFile } from "../catalog.ts";
import type { DeviceOption, TensorOn } from "../device/select.ts";
import { dtypeBits } from "../format/dtype.ts";
import { type Files, PYTORCH } from "../inputs.ts";
import type { SafeTensorsModel } from "../model.ts";
import { openModel } from "../open_model.ts";
import type { OpenOptions } from "../options.ts";
import type { SourceFile } from "../source/source.ts";
import type { ByteReader } from "./byte_reader.ts";
import { type Checkpoint, type CheckpointTensor, readCheckpoint } from "./checkpoint.ts";
import { elementCount } from "./checkpoint_tensor.ts";
import { stridedBlocks } from "./strided.ts";
import { applyTransforms, copyPiece } from "./strided_copy.ts";

/**
 * Opens PyTorch checkpoints (.pt, .pth, .bin) and starts to load them, as {@linkcode fastsafeOpen} does with
 * safetensors files: the tensors lie uncompressed at known places, so they are read in parallel, to any device.
 *
 * No pickle is run: only what describes tensors is understood, anything else is an error that names it. Names that
 * share a tensor share its memory here too. {@linkcode SafeTensorsModel.metadata} tells of each file
 * `format: "pt"` and, for every such name, the one that a saved file would keep.
 *
 * @param files a file, a list of files, a folder, a `pytorch_model.bin.index.json`, or files by rank
 * @returns the model; close it, or bind it with `await using`
 * @throws {SafeTensorsError} "WrongFormat", "InvalidPickle", "InvalidCheckpoint" or "UnsupportedCheckpoint" if a file
 *   is none, or not one that can be read safely; "DuplicateName", "MissingShard" or "TensorNotFound" if files and
 *   index disagree
 * @throws {ReadError} if a file cannot be opened or read
 * @throws {OutOfMemoryError} if the tensors do not fit in memory
 */
export async function openPyTorch<D extends DeviceOption = "cpu">(
  files: Files,
  options: OpenOptions<D> = {},
): Promise<SafeTensorsModel<TensorOn<D>>> {
  const list: ListFile = async (file, index) => contentsOf(await readCheckpoint(byteReader(file)), index);
  return await openModel(files, options, { naming: PYTORCH, list });
}

/** A file as the checkpoint reader wants it. */
export function byteReader(file: SourceFile): ByteReader {
  return {
    path: file.path,
    size: file.size,
    async read(offset, length) {
      const bytes = new Uint8Array(length);
      await file.read(offset, bytes);
      return bytes;
    },
  };
}

/** Whether the file has the bytes of a tensor as they are wanted. */
export function liesReady(tensor: CheckpointTensor): boolean {
  return tensor.contiguous && tensor.byteSwap === 0 && !tensor.conjugate && !tensor.negative;
}

/** Bytes of a tensor's elements. */
export function tensorBytes({ shape, dtype }: CheckpointTensor): number {
  return elementCount(shape) * dtypeBits(dtype) / 8;
}

function contentsOf(checkpoint: Checkpoint, file: number): FileContents {
  const { tensors, aliases, skipped } = checkpoint;
  const notes = skipped.length === 0 ? [] : [
    `"${checkpoint.path}" has ${skipped.length} values that are no tensors, such as "${skipped[0]!.name}" ` +
    `(${skipped[0]!.kind})`,
  ];
  return {
    metadata: new Map([["format", "pt"], ...aliases]),
    notes,
    tensors: Array.from(tensors.values(), (tensor) => catalogTensor(tensor, file, aliases.get(tensor.name))),
  };
}

function catalogTensor(tensor: CheckpointTensor, file: number, aliasOf: string | undefined): CatalogTensor {
  const { name, dtype, shape, fileOffset } = tensor;
  return {
    name,
    dtype,
    shape,
    file,
    fileOffset,
    byteLength: tensorBytes(tensor),
    ...aliasOf === undefined ? {} : { aliasOf },
    ...liesReady(tensor) ? {} : { assemble: assembler(tensor) },
  };
}

/** Bytes of one read of what has to be put together: it is rearranged on the event loop's thread. */
const SPAN = 2 ** 20;

function assembler(tensor: CheckpointTensor): Assemble {
  return async (file, target, signal) => {
    const span = new Uint8Array(SPAN);
    for (const block of stridedBlocks(tensor, SPAN, Infinity)) {
      for (const piece of block.pieces) {
        signal.throwIfAborted();
        const bytes = span.subarray(0, piece.byteLength);
        await file.read(piece.fileOffset, bytes);
        copyPiece(bytes, piece, target);
      }
    }
    applyTransforms(target, tensor.dtype, tensor);
  };
}
