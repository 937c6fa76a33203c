/**
 * Host memory that a process group sends from.
 */
import { gatherSlice } from "../format/slices.ts";
import type { ExposedBytes } from "./device.ts";

/** Bytes that the garbage collector frees. Copies that are given up lend their memory to those made after. */
export function exposeHost(memory: Uint8Array<ArrayBuffer>): ExposedBytes {
  const spare: Uint8Array<ArrayBuffer>[] = [];
  return {
    memory,
    gather(slices) {
      return Promise.try(() => {
        const length = slices.reduce((sum, { byteLength }) => sum + byteLength, 0);
        const last = spare.pop();
        const room = last && last.byteLength >= length ? last : new Uint8Array(length);
        let at = 0;
        for (const slice of slices) gatherSlice(memory, slice, room.subarray(at, at += slice.byteLength));
        return { ...exposeHost(room.subarray(0, length)), [Symbol.dispose]: () => void spare.push(room) };
      });
    },
    [Symbol.dispose]() {},
  };
}
