/**
 * Pinned host memory for loads to a GPU.
 */
import { checkInteger, checkKeys, keysOf } from "../../base/check.ts";
import type { Handle } from "../../../ffi/handle.ts";
import { UseAfterCloseError } from "../../base/errors.ts";
import { PAGE } from "../../load/layout.ts";

/** Options of {@linkcode PinnedPool}. */
export interface PinnedPoolOptions {
  /** Most bytes that stay pinned between loads; a load that needs more pins more and unpins it. Default 256 MiB. */
  maxBytes?: number;
}

const KEYS = keysOf<PinnedPoolOptions>({ maxBytes: true });

/** Pinned memory that a load uses. */
export interface PinnedSlab {
  /** The handle of its pointer in the shim. */
  readonly handle: Handle;
  /** Its size in bytes. */
  readonly byteLength: number;
}

/** Functions of the driver that pin memory; a program without a GPU never opens the driver. */
export interface Pinning {
  /** Maps memory close to a device; lanes pin it by pieces. */
  pin(device: number, byteLength: number): Promise<{ handle: Handle }>;
  /** Resolves after all released memory is free. */
  released(): Promise<void>;
}

interface OwnedSlab extends PinnedSlab {
  readonly pinning: Pinning;
  /** The device that it is close to. */
  readonly device: number;
}

/** Takes memory from a pool, close to a device. */
export let takeFrom: (
  pool: PinnedPool,
  pinning: Pinning,
  device: number,
  byteLength: number,
) => Promise<PinnedSlab>;

/** Returns memory to a pool; lanes must no longer use it. */
export let returnTo: (pool: PinnedPool, slab: PinnedSlab) => void;

/**
 * A pool of pinned staging memory that loads to a GPU reuse: pinning takes milliseconds. Pass the same pool to each load.
 * Without one, the process keeps up to 128 MiB for its next loads.
 *
 * The memory is on huge pages, and on the memory node of the device if the machine has several nodes. Loads that run at
 * the same time get different memory.
 *
 * @example Use
 * ```ts
 * import { fastsafeOpen, PinnedPool, serialize } from "@x/fastsafetensors";
 * import { doctor } from "@x/fastsafetensors/doctor";
 *
 * const path = await Deno.makeTempFile({ suffix: ".safetensors" });
 * await Deno.writeFile(path, serialize({ x: { dtype: "F32", shape: [2], data: new Float32Array([1, 2]) } }));
 *
 * if ((await doctor()).cuda.devices.length > 0) {
 *   await using pool = new PinnedPool();
 *   for (let turn = 0; turn < 3; turn++) {
 *     await using model = await fastsafeOpen(path, { device: "cuda", pool });
 *     await model.whenLoaded();
 *   }
 * }
 * ```
 */
export class PinnedPool implements AsyncDisposable {
  readonly #maxBytes: number;
  readonly #idle: OwnedSlab[] = [];
  readonly #lent = new Set<PinnedSlab>();
  #isClosed = false;

  /**
   * Makes an empty pool: memory is pinned for the first load.
   *
   * @throws {TypeError} if an option is unknown, or `maxBytes` is not a number
   * @throws {RangeError} if `maxBytes` is not a whole number from 0
   */
  constructor(options: PinnedPoolOptions = {}) {
    checkKeys("PinnedPool", options, KEYS);
    this.#maxBytes = checkInteger("maxBytes", options.maxBytes, { byDefault: 256 * 2 ** 20, least: 0 });
  }

  static {
    takeFrom = (pool, pinning, device, byteLength) => pool.#take(pinning, device, byteLength);
    returnTo = (pool, slab) => pool.#return(slab as OwnedSlab);
  }

  /** Bytes that are pinned now, in use by loads or free for the next load. */
  get byteLength(): number {
    return [...this.#lent, ...this.#idle].reduce((sum, slab) => sum + slab.byteLength, 0);
  }

  /** Frees unused memory now, and memory in use after its load. A later load with this pool throws an error. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const pinnings = new Set(this.#idle.map(({ pinning }) => pinning));
    this.#keep(0);
    for (const pinning of pinnings) await pinning.released();
  }

  /** {@linkcode close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #take(pinning: Pinning, device: number, byteLength: number): Promise<PinnedSlab> {
    if (this.#isClosed) throw new UseAfterCloseError("Cannot load with this pool: it was closed");
    const index = this.#idle.findIndex((slab) => slab.device === device && slab.byteLength >= byteLength);
    let slab = index < 0 ? undefined : this.#idle.splice(index, 1)[0];
    if (!slab) {
      const pinned = Math.ceil(byteLength / PAGE) * PAGE;
      const { handle } = await pinning.pin(device, pinned);
      slab = { pinning, device, byteLength: pinned, handle };
    }
    this.#lent.add(slab);
    return slab;
  }

  #return(slab: OwnedSlab): void {
    this.#lent.delete(slab);
    this.#idle.push(slab);
    this.#keep(this.#isClosed ? 0 : this.#maxBytes);
  }

  /** Frees the memory that has been unused for the longest time, until at most this many bytes are left. */
  #keep(maxBytes: number): void {
    let bytes = this.#idle.reduce((sum, slab) => sum + slab.byteLength, 0);
    while (bytes > maxBytes) {
      const slab = this.#idle.shift()!;
      bytes -= slab.byteLength;
      slab.handle.close();
    }
  }
}
