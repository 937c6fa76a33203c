/** Where the bytes of a tensor's storage are read from. */
import { quote } from "../base/text.ts";
import type { SourceFile } from "../files/source.ts";
import type { ByteReader } from "./byte_reader.ts";
import type { CheckpointTensor } from "./checkpoint_tensor.ts";
import type { PackedBytes } from "./container.ts";
import { inflate } from "./inflate.ts";

/** Reads at the offsets of a tensor. */
export type StorageReader = Pick<SourceFile, "read">;

/**
 * Storages that are unpacked, for as long as someone reads them: the tensors of one storage are read one after another,
 * and the memory is given back without being asked for.
 */
const unpacked = new WeakMap<PackedBytes, WeakRef<Uint8Array<ArrayBuffer>>>();

/**
 * Opens the storage of a tensor: the file, or, where the storage is compressed, what it unpacks to, all of it in memory.
 *
 * @throws {SafeTensorsError} "InvalidCheckpoint" where the compressed bytes are damaged
 * @throws {ReadError} where the file cannot be read
 */
export async function openStorage(
  file: SourceFile,
  { packed, storage }: CheckpointTensor,
): Promise<StorageReader> {
  if (!packed) return file;
  const known = unpacked.get(packed)?.deref();
  const bytes = known ?? await inflate(byteReader(file), packed, `storage ${quote(storage)}`);
  if (!known) unpacked.set(packed, new WeakRef(bytes));
  return {
    read(offset, target) {
      target.set(bytes.subarray(offset, offset + target.length));
      return Promise.resolve();
    },
  };
}

/** A file for those who want each read in memory of its own. */
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
