/** What the two kinds of checkpoint files come down to. */
import type { PickleValue } from "./pickle_value.ts";
import type { StorageTable } from "./storages.ts";

/** A checkpoint file, opened: its pickle read, its storages found. */
export interface Container {
  /** Which kind it is: the zip archive of PyTorch 1.6 and later, or the pickles in a row before that. */
  readonly kind: "zip" | "legacy";
  /** The object that was saved. */
  readonly value: PickleValue;
  /** The storages it refers to. */
  readonly storages: StorageTable;
  /** The file offset of each storage by its key; the file holds all its bytes from there. */
  readonly starts: ReadonlyMap<string, number>;
  /** Whether the components of elements are stored most significant byte first. */
  readonly bigEndian: boolean;
}
