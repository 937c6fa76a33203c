/**
 * Host memory from which a process group sends.
 */
import type { HostOperations } from "../load/host_operations.ts";
import type { ExposedBytes } from "../load/device.ts";

/** Bytes that the garbage collector frees. Later copies reuse the memory of released copies. */
export function exposeHost(memory: Uint8Array<ArrayBuffer>, operations: HostOperations): ExposedBytes {
  const spare: Uint8Array<ArrayBuffer>[] = [];
  return {
    memory,
    async gather(slices) {
      const length = slices.reduce((sum, { byteLength }) => sum + byteLength, 0);
      const last = spare.pop();
      const copy = last && last.byteLength >= length ? last : new Uint8Array(length);
      let at = 0;
      for (const slice of slices) {
        await operations.gather(memory, slice, copy.subarray(at, at += slice.byteLength));
      }
      const copied = exposeHost(copy.subarray(0, length), operations);
      return { ...copied, [Symbol.dispose]: () => void spare.push(copy) };
    },
    [Symbol.dispose]() {},
  };
}
