/**
 * Host memory that a process group sends from.
 */
import { gatherSlice } from "../format/slices.ts";
import type { ExposedBytes } from "./device.ts";

/** Bytes that the garbage collector frees. */
export function exposeHost(memory: Uint8Array<ArrayBuffer>): ExposedBytes {
  return {
    memory,
    gather(slices) {
      return Promise.try(() => {
        const gathered = new Uint8Array(slices.reduce((sum, { byteLength }) => sum + byteLength, 0));
        let at = 0;
        for (const slice of slices) gatherSlice(memory, slice, gathered.subarray(at, at += slice.byteLength));
        return exposeHost(gathered);
      });
    },
    [Symbol.dispose]() {},
  };
}
