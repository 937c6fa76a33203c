/**
 * Slices, casts and joins of tensors in host memory in non-blocking calls of the shim.
 */
import { castHost, gatherHost, scatterHost } from "../../../ffi/host_ops.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import type { DType } from "../../base/dtype.ts";
import type { StridedRuns } from "../../base/levels.ts";
import { copyStrided, cutCopy, denseCopy } from "../../format/strided.ts";
import { SharedTurn } from "../../base/turn.ts";
import {
  type Column,
  columnCopy,
  columnsOf,
  cutCast,
  type HostOperations,
  LoopOperations,
} from "../host_operations.ts";
import { returnCalls, takeCalls } from "./lane_budget.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** Fewer bytes are faster on the event loop than in a call of another thread, and take well under a millisecond. */
const SMALL = 64 * 1024;

/** Copies of so few bytes take less on the event loop than the way to another thread and back, if their runs are long. */
const SHORT = 2 ** 20, LONG_RUN = 512;

/** Least bytes of a thread's share of an operation, and most bytes of one call of the shim. */
const SHARE = 4 * 2 ** 20, CALL = 16 * 2 ** 20;

/** Least bytes of a buffer that uses huge pages. */
const LARGE = 2 * 2 ** 20;

/** Operations in non-blocking calls of the shim. */
export class NativeOperations implements HostOperations {
  readonly #shim: Shim;
  readonly #loop = new LoopOperations();
  readonly #turn = new SharedTurn();

  constructor(shim: Shim) {
    this.#shim = shim;
  }

  allocate(byteLength: number): Bytes {
    const memory = new Uint8Array(byteLength);
    if (byteLength >= LARGE) this.#shim.fst_memory_advise(memory, 0n, BigInt(byteLength)); // before the first access
    return memory;
  }

  async gather(source: Bytes, runs: StridedRuns, target: Bytes): Promise<void> {
    if (target.byteLength < SMALL) return await this.#loop.gather(source, runs, target);
    if (target.byteLength <= SHORT && runs.run >= LONG_RUN) {
      return await this.#turn.run(() => copyStrided(source, denseCopy(runs), target));
    }
    const parts = cutCopy(denseCopy(runs), callBytes(target.byteLength)).map((part) => () =>
      gatherHost(
        this.#shim,
        source,
        part,
        target.subarray(part.targetOffset, part.targetOffset + part.byteLength),
      )
    );
    await inParallel(parts, target.byteLength);
  }

  async cast(source: Bytes, from: DType, target: Bytes, to: DType): Promise<void> {
    if (source.byteLength < SMALL) return await this.#loop.cast(source, from, target, to);
    if (from === to && source.byteLength <= SHORT) return await this.#turn.run(() => target.set(source));
    const parts = cutCast(source, from, target, to, callBytes(source.byteLength)).map((part) => () =>
      castHost(this.#shim, part.source, from, part.target, to, part.count)
    );
    await inParallel(parts, source.byteLength);
  }

  async join(sources: readonly Bytes[], rows: number, target: Bytes): Promise<void> {
    if (target.byteLength < SMALL || rows === 1 && target.byteLength < SMALL * sources.length) {
      return await this.#loop.join(sources, rows, target);
    }
    const columns = columnsOf(sources, rows);
    if (target.byteLength <= SHORT && columns.every(({ width }) => width >= LONG_RUN)) {
      return await this.#turn.run(() => {
        for (const column of columns) copyStrided(column.source, columnCopy(column, rows, target), target);
      });
    }
    const parts = joinParts(columns, rows, target.byteLength / rows).map((copies) => async () => {
      for (const { source, offset, place } of copies) {
        await scatterHost(this.#shim, source, target, { offset, ...place });
      }
    });
    await inParallel(parts, target.byteLength);
  }
}

/** A copy of rows of one source of a join. */
interface JoinCopy {
  readonly source: Bytes;
  /** Byte offset of the first row in the target. */
  readonly offset: number;
  readonly place: { readonly pitch: number; readonly width: number; readonly rows: number };
}

/** Cuts a join into parts of bytes that are near each other in the target. */
function* joinParts(columns: readonly Column[], rows: number, pitch: number): Generator<JoinCopy[]> {
  const bytes = callBytes(rows * pitch);
  if (pitch <= bytes) {
    const step = Math.floor(bytes / pitch);
    for (let row = 0; row < rows; row += step) {
      const count = Math.min(step, rows - row);
      yield columns.filter(({ width }) => width > 0).map(({ source, width, offset }) => ({
        source: source.subarray(row * width, (row + count) * width),
        offset: offset + row * pitch,
        place: { pitch, width, rows: count },
      }));
    }
    return;
  }
  for (let row = 0; row < rows; row++) {
    for (const { source, width, offset } of columns) {
      for (let at = 0; at < width; at += bytes) {
        const length = Math.min(bytes, width - at);
        const begin = row * width + at;
        yield [{
          source: source.subarray(begin, begin + length),
          offset: offset + row * pitch + at,
          place: { pitch: length, width: length, rows: 1 },
        }];
      }
    }
  }
}

/** Threads that share an operation on so many bytes. */
function threadsFor(byteLength: number): number {
  return Math.min(Math.ceil(byteLength / SHARE), Math.max(2, navigator.hardwareConcurrency), 4);
}

/** Bytes of one call: few calls, because the way to another thread and back takes as long as many kilobytes. */
function callBytes(byteLength: number): number {
  return Math.min(CALL, Math.ceil(byteLength / threadsFor(byteLength)));
}

/** Runs calls on a number of threads that depends on the bytes; all calls have ended when this settles. */
async function inParallel(
  calls: IteratorObject<() => Promise<void>>,
  byteLength: number,
): Promise<void> {
  const taken = await takeCalls(1, threadsFor(byteLength));
  try {
    const run = async () => {
      for (const call of calls) await call(); // all threads share one iterator
    };
    const ends = await Promise.allSettled(Array.from({ length: taken }, run));
    for (const end of ends) if (end.status === "rejected") throw end.reason;
  } finally {
    returnCalls(taken);
  }
}
