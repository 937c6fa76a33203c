/**
 * Reads one small range in one call of the shim: a lane with one segment, which reads, checks and fails like any other,
 * without the preparations that only pay for many bytes.
 */
import { PlanMemory } from "../../../ffi/plan_memory.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import type { NativeFile } from "../../files/native/native_file.ts";
import type { TensorRequest } from "../request.ts";
import { returnCalls, takeCalls } from "./lane_budget.ts";
import { readFailure } from "./read_failure.ts";

/**
 * Reads the bytes of a contiguous request as they are in the file.
 *
 * @throws {ReadError} if the file does not have them, or was changed after its header was read
 */
export async function readSmall(
  shim: Shim,
  { name, fileOffset, run }: TensorRequest,
  file: NativeFile,
  signal: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  const calls = await takeCalls(1, 1, signal);
  const ended = Promise.withResolvers<void>();
  try {
    const buffer = new ArrayBuffer(run);
    const memory = new PlanMemory([file.lend(ended.promise)], 1, 0); // bytes that are not cast need no staging
    const range = { file: 0, fileOffset, run, from: "U8", to: "U8" } as const;
    const once = { outerCount: 1, outerStride: 0, innerCount: 1, innerStride: 0 };
    memory.setSegment(0, { ...range, ...once }, Number(shim.fst_address(buffer)));
    await shim.fst_lane_run(memory.bytes, 1, buffer, null, null, null, null, null, null, null);
    signal.throwIfAborted();
    if (memory.failure) throw readFailure(memory.failure, file.path, name, run);
    return new Uint8Array(buffer);
  } finally {
    ended.resolve();
    returnCalls(calls);
  }
}
