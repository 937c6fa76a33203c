/**
 * Reads strided runs of a file: each range once, in order, into memory that the reads share.
 */
import { Turn } from "../base/turn.ts";
import type { StridedRead } from "../format/strided.ts";
import type { SourceFile } from "../files/source.ts";
import { copyInTurns } from "./host_operations.ts";

/**
 * Reads ranges of a file, one after another, and copies their runs to a target, in short turns of the event loop.
 *
 * @throws the reason of the signal, if it is aborted before a read
 */
export async function readStrided(
  file: Pick<SourceFile, "read">,
  reads: Iterable<StridedRead>,
  target: Uint8Array<ArrayBuffer>,
  signal?: AbortSignal,
): Promise<void> {
  const turn = new Turn(); // a read of bytes in memory does not end the present turn
  let memory = new Uint8Array();
  for (const { offset, byteLength, copy } of reads) {
    signal?.throwIfAborted();
    if (memory.length < byteLength) memory = new Uint8Array(byteLength);
    const span = memory.subarray(0, byteLength);
    await file.read(offset, span, signal);
    await copyInTurns(span, copy, target, turn);
  }
}
