/**
 * Descriptors of partial files for lanes.
 */
import type { Shim } from "../../../../ffi/symbols.ts";
import { openExisting } from "../../../../ffi/writes.ts";
import type { LaneFiles } from "./partial_file.ts";

/** Opens descriptors through the shim. */
export function laneFiles(shim: Shim): LaneFiles {
  return {
    open: (path, writes) => openExisting(shim, path, writes),
    close: (fd) => void shim.fst_file_close(fd),
  };
}
