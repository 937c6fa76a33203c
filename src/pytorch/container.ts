/** What the two kinds of checkpoint files come down to. */
import type { PickleValue } from "./pickle_value.ts";
import type { StorageTable } from "./storages.ts";

/** Bytes that a zip archive holds compressed. */
export interface PackedBytes {
  /** The file offset of the first compressed byte. */
  readonly offset: number;
  /** How many compressed bytes there are. */
  readonly packedSize: number;
  /** How many bytes they unpack to. */
  readonly size: number;
  /** The CRC-32 of these; undefined where the archive has no checksums. */
  readonly crc32: number | undefined;
}

/** Where the bytes of a storage are. */
export interface StoragePlace {
  /** The offset of its first byte in the file, or in what it is unpacked to. */
  readonly start: number;
  /** How it is compressed, where it is. */
  readonly packed?: PackedBytes;
}

/** A checkpoint file, opened: its pickle read, its storages found. */
export interface Container {
  /** Which kind it is: the zip archive of PyTorch 1.6 and later, or the pickles in a row before that. */
  readonly kind: "zip" | "legacy";
  /** The object that was saved. */
  readonly value: PickleValue;
  /** The storages it refers to. */
  readonly storages: StorageTable;
  /** The place of each storage by its key; all its bytes are there. */
  readonly places: ReadonlyMap<string, StoragePlace>;
  /** Whether the components of elements are stored most significant byte first. */
  readonly bigEndian: boolean;
}
