/**
 * Runs a plan into the memory of a CUDA device.
 */
import { cudaError, pinMemory, statusText } from "../../../ffi/cuda.ts";
import {
  CUDA_DESTINATION,
  type CudaLoad,
  type CudaLoadReport,
  loadReport,
  openLoad,
  probeGds,
} from "../../../ffi/cuda_load.ts";
import { releasesDone } from "../../../ffi/cuda_release.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import type { RunReport } from "../../load/engine.ts";
import { isCached, runNativeLanes } from "../../load/native/native_lanes.ts";
import { PAGE } from "../../load/layout.ts";
import { type LoadPlan, segmentBytes } from "../../load/plan.ts";
import type { Readiness } from "../../load/readiness.ts";
import type { LaneFile } from "../../files/native/native_file.ts";
import { CudaMemory } from "./memory.ts";
import type { LoadSettings } from "../../load/device.ts";
import { PinnedPool, type PinnedSlab, returnTo, takeFrom } from "./pinned_pool.ts";

/** Whether GPUDirect Storage is used: if available, always (else an error), or never. */
export type GdsOption = "auto" | "require" | "off";

/** Settings of loads to a CUDA device. */
export interface CudaSettings {
  /** Whether GPUDirect Storage is used. */
  readonly gds: GdsOption;
  /** The pool of staging memory; undefined: each load pins its own. */
  readonly pool: PinnedPool | undefined;
}

/** Slots of staging memory of each lane: it reads into one while the device copies from the other. */
const SLOTS = 2;

/** Lanes for which a load gets staging memory, if the user does not set `maxThreads`. */
const MOST_LANES = 16;

/** Least bytes of a slot: a page of the GPU. */
const LEAST_SLOT = 64 * 1024;

/** A plan with its files and settings, without the memory of its tensors. */
export class CudaRun {
  readonly #shim: Shim;
  readonly #gds: GdsOption;
  readonly #plan: LoadPlan;
  readonly #files: readonly LaneFile[];
  readonly #settings: LoadSettings;
  readonly #pool: PinnedPool;
  readonly #slab: PinnedSlab;
  readonly #stagingBytes: number;
  readonly #load: CudaLoad;

  private constructor(
    shim: Shim,
    gds: GdsOption,
    plan: LoadPlan,
    files: readonly LaneFile[],
    settings: LoadSettings,
    staging: { pool: PinnedPool; slab: PinnedSlab; stagingBytes: number },
    load: CudaLoad,
  ) {
    this.#shim = shim;
    this.#gds = gds;
    this.#plan = plan;
    this.#files = files;
    this.#settings = settings;
    this.#pool = staging.pool;
    this.#slab = staging.slab;
    this.#stagingBytes = staging.stagingBytes;
    this.#load = load;
  }

  /**
   * Allocates staging memory, and prepares the device.
   *
   * @throws {DeviceError} if the device fails, or GPUDirect Storage is required but not available
   * @throws {OutOfMemoryError} if the device has no memory for the ring that casts need
   */
  static async prepare(
    shim: Shim,
    device: number,
    { gds, pool: own }: CudaSettings,
    plan: LoadPlan,
    files: readonly LaneFile[],
    settings: LoadSettings,
  ): Promise<CudaRun> {
    const stagingBytes = stagingFor(plan, settings);
    const pool = own ?? new PinnedPool({ maxBytes: 0 });
    const pinning = {
      pin: (device: number, byteLength: number) =>
        pinMemory(shim, device, byteLength, own ? "later" : "shared"),
      released: () => releasesDone(shim),
    };
    // Shared memory has the size that most loads ask for; lanes pin what they use of it.
    const slab = await takeFrom(pool, pinning, device, own ? stagingBytes : settings.stagingBytes);
    try {
      // Opening its driver takes up to seconds, and all bytes are in the page cache.
      const fullyCached = gds === "auto" && isCached(plan, files) && (await probeGds(shim)).usable;
      const options = {
        device,
        files: files.length,
        pinnedBytes: stagingBytes,
        gds: fullyCached ? "off" : gds,
        casts: plan.segments.some(({ from, to }) => from !== to),
        allocations: plan.allocations.length,
      } as const;
      const opened = await slab.handle.use("load", (pinned) => openLoad(shim, { ...options, pinned }));
      const load = fullyCached ? { ...opened, gdsReason: "the page cache had the bytes" } : opened;
      return new CudaRun(shim, gds, plan, files, settings, { pool, slab, stagingBytes }, load);
    } catch (error) {
      returnTo(pool, slab);
      throw error;
    }
  }

  /**
   * Runs the lanes, once, and makes the memory of the tensors while they already read.
   *
   * @return once there is memory: one for each allocation of the plan, with one reference of the caller; and the promise
   * that settles when all lanes have ended and the staging memory is released
   * @throws {OutOfMemoryError} if the device has too little memory; the lanes have ended
   * @throws {DeviceError} if the device fails; likewise
   */
  async start(
    device: number,
    action: string,
    readiness: Readiness,
  ): Promise<{ memories: readonly CudaMemory[]; finished: Promise<RunReport> }> {
    const { handle } = this.#load;
    const stop = new AbortController();
    const allocating = handle.use("load", (pointer) => {
      const idle = async (error: unknown) => {
        stop.abort(error);
        await finished.catch(() => {});
      };
      return CudaMemory.allocate(this.#shim, device, this.#plan.allocations, action, { pointer, idle });
    });
    const finished = this.#runLanes(AbortSignal.any([this.#settings.signal, stop.signal]), readiness);
    // A caller that gets the memory gets this promise too.
    finished.catch(() => {});
    const memories = await allocating;
    for (const memory of memories) memory.hold(); // for the lanes
    const release = () => {
      for (const memory of memories) memory.drop();
    };
    finished.then(release, release);
    return { memories, finished };
  }

  async #runLanes(signal: AbortSignal, readiness: Readiness): Promise<RunReport> {
    const { handle } = this.#load;
    try {
      return await handle.use("load", async (context) => {
        const report = await runNativeLanes(this.#shim, {
          ...this.#settings,
          signal,
          plan: this.#plan,
          files: this.#files,
          readiness,
          stagingBytes: this.#stagingBytes,
          memory: {
            buffer: null,
            // Segments have their place in an allocation; the shim adds the address when there is one.
            whenAddressed: () => Promise.resolve(0),
          },
          destination: {
            kind: CUDA_DESTINATION,
            context,
            slots: SLOTS,
            error: (action, status) => cudaError(this.#shim, action, status),
          },
        });
        return this.#withGds(report, loadReport(this.#shim, context));
      });
    } finally {
      handle.close();
      returnTo(this.#pool, this.#slab);
    }
  }

  /** Combines the report of the lanes with that of the device. */
  #withGds(report: RunReport, gds: CudaLoadReport): RunReport {
    const notes = [...report.notes];
    if (gds.pinFailure !== 0) {
      const why = statusText(this.#shim, gds.pinFailure);
      notes.push(`Staging memory could not be pinned, so copies to the device are slower: ${why}`);
    }
    const { bytes } = this.#plan;
    if (gds.mode === "off") {
      if (this.#gds !== "off") notes.push(`GPUDirect Storage is not used: ${this.#load.gdsReason}`);
      return { ...report, notes };
    }
    if (this.#load.gdsReason) notes.push(this.#load.gdsReason);
    if (gds.failure !== 0) {
      const why = statusText(this.#shim, gds.failure);
      notes.push(`GPUDirect Storage failed after ${gds.bytes} bytes, the host read the rest: ${why}`);
    } else if (gds.bytes === 0 && bytes > 0) {
      notes.push("GPUDirect Storage is not used: the page cache had the bytes, or the reads were too small");
    }
    return { ...report, path: gds.bytes * 2 > bytes ? gds.mode : report.path, notes };
  }
}

/** Bytes of staging memory that a load can use, at most `stagingBytes`. */
function stagingFor(plan: LoadPlan, settings: LoadSettings): number {
  const lanes = Math.max(1, Math.min(settings.maxThreads ?? MOST_LANES, plan.segments.length));
  const largest = plan.segments.reduce((most, segment) => Math.max(most, segmentBytes(segment)), 0);
  // Whole pages around a block that begins and ends within a page.
  const slot = Math.max(LEAST_SLOT, Math.min(settings.blockBytes, largest) + 2 * PAGE);
  return Math.min(settings.stagingBytes, SLOTS * lanes * 2 ** Math.ceil(Math.log2(slot)));
}
