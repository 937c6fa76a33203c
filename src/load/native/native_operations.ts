/**
 * Slices, casts and joins of tensors in host memory in non-blocking calls of the shim.
 */
import { castHost, gatherHost, scatterHost } from "../../../ffi/host_ops.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import type { DType } from "../../base/dtype.ts";
import type { StridedRuns } from "../../base/levels.ts";
import { cutCopy, denseCopy } from "../../format/strided.ts";
import { columnsOf, cutCast, type HostOperations, LoopOperations } from "../host_operations.ts";
import { returnCalls, takeCalls } from "./lane_budget.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** Fewer bytes are faster on the event loop than in a call of another thread, and take well under a millisecond. */
const SMALL = 64 * 1024;

/** Most bytes of one call of the shim; several threads share larger operations. */
const CALL = 16 * 2 ** 20;

/** Least bytes of a buffer that uses huge pages. */
const LARGE = 2 * 2 ** 20;

/** Operations in non-blocking calls of the shim. */
export class NativeOperations implements HostOperations {
  readonly #shim: Shim;
  readonly #loop = new LoopOperations();

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
    const parts = cutCopy(denseCopy(runs), CALL).map((part) => () =>
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
    const parts = cutCast(source, from, target, to, CALL).map((part) => () =>
      castHost(this.#shim, part.source, from, part.target, to, part.count)
    );
    await inParallel(parts, source.byteLength);
  }

  async join(sources: readonly Bytes[], rows: number, target: Bytes): Promise<void> {
    if (target.byteLength < SMALL || rows === 1 && target.byteLength < SMALL * sources.length) {
      return await this.#loop.join(sources, rows, target);
    }
    const pitch = target.byteLength / rows;
    const parts = columnsOf(sources, rows).values().map(({ source, width, offset }) => () =>
      scatterHost(this.#shim, source, target, { offset, pitch, width, rows })
    );
    await inParallel(parts, target.byteLength);
  }
}

/** Runs calls on a number of threads that depends on the bytes; all calls have ended when this settles. */
async function inParallel(
  calls: IteratorObject<() => Promise<void>>,
  byteLength: number,
): Promise<void> {
  const threads = Math.min(Math.ceil(byteLength / CALL), Math.max(2, navigator.hardwareConcurrency), 4);
  const taken = await takeCalls(1, threads);
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
