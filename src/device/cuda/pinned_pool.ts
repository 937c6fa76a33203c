/**
 * Pinned host memory for loads to a GPU.
 */
import { checkInteger, checkKeys, keysOf } from "../../base/check.ts";
import { UseAfterCloseError } from "../../base/errors.ts";
import { PAGE } from "../../load/layout.ts";

/** Options of {@linkcode PinnedPool}. */
export interface PinnedPoolOptions {
  /** Bytes that are kept between loads at most; a load that needs more gets it and gives it back. Default 256 MiB. */
  maxBytes?: number;
}

const KEYS = keysOf<PinnedPoolOptions>({ maxBytes: true });

/** Pinned memory lent to a load. */
export interface PinnedSlab {
  /** Its address. */
  readonly address: bigint;
  /** Its bytes. */
  readonly byteLength: number;
}

/** What pins memory: the driver, which a program without a GPU never opens. */
export interface Pinning {
  /** Pins memory near to a device. */
  pin(device: number, byteLength: number): Promise<{ address: bigint; handle: { close(): unknown } }>;
  /** Resolves once all memory that was given back is free. */
  released(): Promise<void>;
}

interface OwnedSlab extends PinnedSlab {
  readonly pinning: Pinning;
  readonly handle: { close(): unknown };
  /** The device that it is near to. */
  readonly device: number;
}

/** Lends memory of a pool, near to a device. */
export let takeFrom: (
  pool: PinnedPool,
  pinning: Pinning,
  device: number,
  byteLength: number,
) => Promise<PinnedSlab>;

/** Takes back what a pool has lent; no lane may use it any more. */
export let giveBackTo: (pool: PinnedPool, slab: PinnedSlab) => void;

/**
 * Keeps the pinned staging memory of loads to a GPU, so that the next load need not pin it again: that takes
 * milliseconds, and counts where models are loaded often. Give the same pool to each of them.
 *
 * The memory is on huge pages, and near to the device where the machine has several memory nodes. Loads that run at
 * once get memory of their own from it.
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
   * An empty pool: memory is pinned when a load asks for it.
   *
   * @throws {TypeError} if there is an unknown option, or `maxBytes` is not a number
   * @throws {RangeError} if `maxBytes` is not a whole number from 0
   */
  constructor(options: PinnedPoolOptions = {}) {
    checkKeys("PinnedPool", options, KEYS);
    this.#maxBytes = checkInteger("maxBytes", options.maxBytes, { byDefault: 256 * 2 ** 20, least: 0 });
  }

  static {
    takeFrom = (pool, pinning, device, byteLength) => pool.#take(pinning, device, byteLength);
    giveBackTo = (pool, slab) => pool.#giveBack(slab as OwnedSlab);
  }

  /** Bytes that are pinned now: lent to loads, or kept for the next one. */
  get byteLength(): number {
    return [...this.#lent, ...this.#idle].reduce((sum, slab) => sum + slab.byteLength, 0);
  }

  /** Frees what is kept; what is lent is freed when it comes back. No load may be started with the pool any more. */
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
      slab = { pinning, device, byteLength: pinned, ...await pinning.pin(device, pinned) };
    }
    this.#lent.add(slab);
    return slab;
  }

  #giveBack(slab: OwnedSlab): void {
    this.#lent.delete(slab);
    this.#idle.push(slab);
    this.#keep(this.#isClosed ? 0 : this.#maxBytes);
  }

  /** Frees what has been idle for longest, until no more than this is left. */
  #keep(maxBytes: number): void {
    let bytes = this.#idle.reduce((sum, slab) => sum + slab.byteLength, 0);
    while (bytes > maxBytes) {
      const slab = this.#idle.shift()!;
      bytes -= slab.byteLength;
      slab.handle.close();
    }
  }
}
