/**
 * Reads one small range: at once if the page cache has it, else in one call of the shim: a lane with one segment, which
 * reads, checks and fails like any other, without the preparations that only pay for many bytes.
 */
import { PlanMemory } from "../../../ffi/plan_memory.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import { nextTurn } from "../../base/turn.ts";
import type { NativeFile } from "../../files/native/native_file.ts";
import type { SmallRead } from "../engine.ts";
import type { TensorRequest } from "../request.ts";
import { returnCalls, takeCalls } from "./lane_budget.ts";
import { readFailure } from "./read_failure.ts";

/** Cached reads, each of some microseconds, between two that wait for a turn of the event loop. */
const READS_PER_TURN = 64;

/** The cached reads since the last one that waited. */
let reads = 0;

/**
 * Reads the bytes of a contiguous request as they are in the file.
 *
 * @returns the bytes, without a promise if the page cache has them
 * @throws {ReadError} if the file does not have them, or was changed after its header was read
 */
export function readSmall(
  shim: Shim,
  request: TensorRequest,
  file: NativeFile,
  signal: AbortSignal,
): SmallRead | Promise<SmallRead> {
  signal.throwIfAborted();
  const bytes = new Uint8Array(request.run);
  if (++reads > READS_PER_TURN) {
    // Callers that await one read after another would never leave their turn of the event loop otherwise: a call that
    // ends soon is answered within it.
    reads = 0;
    return nextTurn().then(() => readInLane(shim, request, file, bytes, signal));
  }
  if (file.readCached(request.fileOffset, bytes)) return landed(bytes);
  return readInLane(shim, request, file, bytes, signal);
}

function landed(bytes: Uint8Array<ArrayBuffer>): SmallRead {
  return { bytes, way: { path: "buffered", threads: 1 } };
}

async function readInLane(
  shim: Shim,
  { name, fileOffset, run }: TensorRequest,
  file: NativeFile,
  bytes: Uint8Array<ArrayBuffer>,
  signal: AbortSignal,
): Promise<SmallRead> {
  const calls = await takeCalls(1, 1, signal);
  const ended = Promise.withResolvers<void>();
  try {
    const { buffer } = bytes;
    const memory = new PlanMemory([file.lend(ended.promise)], 1, 0); // bytes that are not cast need no staging
    const range = { file: 0, fileOffset, run, from: "U8", to: "U8" } as const;
    const once = { outerCount: 1, outerStride: 0, innerCount: 1, innerStride: 0 };
    memory.setSegment(0, { ...range, ...once, allocation: 0 }, Number(shim.fst_address(buffer)));
    await shim.fst_lane_run(memory.bytes, 1, buffer, null, null, null, null, null, null, null);
    signal.throwIfAborted();
    if (memory.failure) throw readFailure(memory.failure, file.path, name, run);
    return landed(bytes);
  } finally {
    ended.resolve();
    returnCalls(calls);
  }
}
