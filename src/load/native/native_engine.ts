/**
 * The native engine: runs plans by calls of the shim.
 */
import { availableMemory } from "../../../ffi/files.ts";
import { withHugePages } from "../../../ffi/memory.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import { PAGE } from "../layout.ts";
import { type LaneFile, NativeFile, NativeFileSource } from "../../files/native/native_file.ts";
import type { SourceFile } from "../../files/source.ts";
import type { Engine, HostBlock, Job, RunReport, SmallRead } from "../engine.ts";
import type { TensorRequest } from "../request.ts";
import { NativeOperations } from "./native_operations.ts";
import { runNativeLanes } from "./native_lanes.ts";
import { readSmall } from "./small_read.ts";

/** A smaller buffer cannot contain an aligned huge page. */
const HUGE_PAGE = 2 * 1024 * 1024;

/** Buffers from this size on begin at a huge page: else each end takes up to 512 small pages, which cost much time. */
const ALIGNED_BYTES = 4 * HUGE_PAGE;

/** Runs plans by non-blocking calls of the shim. */
export class NativeEngine implements Engine<LaneFile> {
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
    const buffer = new ArrayBuffer(byteLength + boundary); // the bytes before and after the block are never used
    const address = this.#addressOf(buffer);
    // Before the first access, at which the kernel allocates small pages.
    if (byteLength >= HUGE_PAGE) this.#shim.fst_memory_advise(buffer, 0n, BigInt(buffer.byteLength));
    return { buffer, base: (boundary - address % boundary) % boundary };
  }

  withHugePages<R>(map: () => R): R {
    return withHugePages(this.#shim, map);
  }

  run(job: Job<LaneFile>): Promise<RunReport> {
    if (!job.files.every(isForLanes) || job.files.every((file) => file.isInMemory)) {
      return this.#runPortably(job);
    }
    const { blocks, ...rest } = job;
    return runNativeLanes(this.#shim, {
      ...rest,
      memory: {
        buffer: (allocation) => blocks.at(allocation)?.buffer ?? null,
        whenAddressed: async (allocation) => {
          const { buffer, base } = await blocks.until(allocation);
          return this.#addressOf(buffer) + base;
        },
      },
    });
  }

  /** Runs a job with files that lanes cannot read, such as those of a server that ignores ranges. */
  async #runPortably(job: Job): Promise<RunReport> {
    const { PortableEngine } = await import("../portable_engine.ts");
    const engine = new PortableEngine({
      source: this.source,
      availableMemory: () => this.availableMemory(),
      reason: "lanes cannot read these files",
    });
    return await engine.run(job);
  }

  readSmall(
    request: TensorRequest,
    file: LaneFile,
    signal: AbortSignal,
  ): SmallRead | Promise<SmallRead> | null {
    // The rings of 3FS are shared by a few lanes.
    if (!(file instanceof NativeFile) || file.reader) return null;
    return readSmall(this.#shim, request, file, signal);
  }

  #addressOf(buffer: ArrayBuffer): number {
    return Number(this.#shim.fst_address(buffer));
  }
}

function isForLanes(file: SourceFile): file is LaneFile {
  return "lend" in file;
}
