/** A tensor of a checkpoint, as a range of its file. */
import { type DType, dtypeBits } from "../base/dtype.ts";
import type { PackedBytes } from "./container.ts";

/** A tensor of a checkpoint: which elements of which storage it shows, and where in the file they lie. */
export interface CheckpointTensor {
  /** Its name in the state dict; those of nested containers are joined with dots. */
  readonly name: string;
  /** The type of its elements. */
  readonly dtype: DType;
  /** Its dimensions, outermost first; the last one of an F4 tensor counts elements, two to a byte. */
  readonly shape: readonly number[];
  /**
   * How many elements lie between neighbours in each dimension; 0 repeats one. An F4 tensor is contiguous.
   */
  readonly strides: readonly number[];
  /**
   * The file offset of its first element; its storage offset is applied. An empty tensor starts with its
   * storage. Where the storage is compressed, this and `storageStart` are offsets in what it unpacks to.
   */
  readonly fileOffset: number;
  /** Which storage it is part of; tensors that share memory share this. */
  readonly storage: string;
  /** The file offset of that storage's first byte. */
  readonly storageStart: number;
  /** The length of that storage in bytes. */
  readonly storageBytes: number;
  /** How its storage is compressed, where it is. */
  readonly packed?: PackedBytes;
  /** Whether its elements lie in the file one after another, in the order of its indices. */
  readonly contiguous: boolean;
  /** The bytes of each component to be reversed after reading; 0 where the file is little-endian. */
  readonly byteSwap: 0 | 2 | 4 | 8;
  /** Whether it is the complex conjugate of what the file holds. */
  readonly conjugate: boolean;
  /** Whether it is the negative of what the file holds. */
  readonly negative: boolean;
}

/** How many elements a tensor of this shape has. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((count, size) => count * size, 1);
}

/** Bytes of a tensor's elements. */
export function tensorBytes({ shape, dtype }: CheckpointTensor): number {
  return elementCount(shape) * dtypeBits(dtype) / 8;
}

/** Whether the file has the bytes of a tensor as they are wanted. */
export function liesReady({ packed, contiguous, byteSwap, conjugate, negative }: CheckpointTensor): boolean {
  return packed === undefined && contiguous && byteSwap === 0 && !conjugate && !negative;
}
