/**
 * The engine over the shim.
 */
import { availableMemory } from "../../../ffi/files.ts";
import { withHugePages } from "../../../ffi/memory.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import { PAGE } from "../layout.ts";
import { type NativeFile, NativeFileSource } from "../../files/native/native_file.ts";
import type { Engine, HostBlock, Job, RunReport } from "../engine.ts";
import { NativeOperations } from "./native_operations.ts";
import { runNativeLanes } from "./native_lanes.ts";

/** Below this a block has no room for a huge page. */
const HUGE_PAGE = 2 * 1024 * 1024;

/** From here on a block begins with a huge page: else its two ends are of 512 small ones, which take as long as it. */
const ALIGNED_BYTES = 4 * HUGE_PAGE;

/** Non-blocking calls into the shim. */
export class NativeEngine implements Engine<NativeFile> {
  readonly name = "native";
  readonly notes: readonly string[] = [];
  readonly source: NativeFileSource;
  readonly operations: NativeOperations;
  readonly #shim: Shim;

  constructor(shim: Shim) {
    this.#shim = shim;
    this.source = new NativeFileSource(shim);
    this.operations = new NativeOperations(shim);
  }

  availableMemory(): number {
    return availableMemory(this.#shim);
  }

  allocate(byteLength: number): HostBlock {
    const boundary = byteLength >= ALIGNED_BYTES ? HUGE_PAGE : PAGE;
    const buffer = new ArrayBuffer(byteLength + boundary); // what lies before and behind is never touched
    const address = this.#addressOf(buffer);
    // Before the first touch, or the kernel has given out small pages already.
    if (byteLength >= HUGE_PAGE) this.#shim.fst_memory_advise(buffer, 0n, BigInt(buffer.byteLength));
    return { buffer, base: (boundary - address % boundary) % boundary };
  }

  withHugePages<R>(map: () => R): R {
    return withHugePages(this.#shim, map);
  }

  run(job: Job<NativeFile>): Promise<RunReport> {
    const { blocks, ...rest } = job;
    return runNativeLanes(this.#shim, {
      ...rest,
      addresses: blocks.map((block) => this.#addressOf(block.buffer) + block.base),
      keep: blocks.map((block) => block.buffer),
    });
  }

  #addressOf(buffer: ArrayBuffer): number {
    return Number(this.#shim.fst_address(buffer));
  }
}
