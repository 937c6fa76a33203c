/**
 * Device memory over an MPI that takes only host memory: it goes through slots of pinned host memory, one of which is
 * filled or emptied while the bytes of another move.
 */
import { pinMemory, type PinnedBlock } from "../../../ffi/cuda.ts";
import {
  copyDevice,
  readDevice,
  readToPinned,
  writeDevice,
  writeFromPinned,
} from "../../../ffi/cuda_tensor.ts";
import { CALL_STATUS, type CallMemory, type GroupCall } from "../../../ffi/group_call.ts";
import { gatherHost } from "../../../ffi/host_ops.ts";
import { freeAfter, moveMpi, type MpiFlow } from "../../../ffi/mpi.ts";
import type { Shim } from "../../../ffi/symbols.ts";

const SLOTS = 3;

/** A part of device memory, at the same place in a slot after the parts before it. */
interface Part {
  readonly address: bigint;
  readonly byteLength: number;
}

/** What one slot moves at once: parts of flows with the same tag, source and destination. */
interface Load extends Pick<MpiFlow, "from" | "to" | "tag"> {
  readonly parts: Part[];
  byteLength: number;
}

/** Pinned memory for the device memory of one group. */
export class MpiStaging {
  /** Index of the device. */
  readonly device: number;
  /** Bytes of a slot. */
  readonly slotBytes: number;
  readonly #shim: Shim;
  readonly #pinned: PinnedBlock;
  #last: GroupCall | undefined;

  private constructor(shim: Shim, device: number, slotBytes: number, pinned: PinnedBlock) {
    this.#shim = shim;
    this.device = device;
    this.slotBytes = slotBytes;
    this.#pinned = pinned;
  }

  /**
   * Pins the memory.
   *
   * @throws {DeviceError | OutOfMemoryError} if that fails
   */
  static async make(shim: Shim, device: number, slotBytes: number): Promise<MpiStaging> {
    return new MpiStaging(shim, device, slotBytes, await pinMemory(shim, device, SLOTS * slotBytes, "now"));
  }

  /** Unpins the memory when MPI cannot access it any more. */
  close(): void {
    const unpin = () => void this.#pinned.handle.close();
    if (this.#last) freeAfter(this.#last, unpin);
    else unpin();
  }

  /**
   * Moves the bytes of all flows; the result is in `call`. Every rank loads the slots with the same bytes in the same
   * order. It has finished all copies when it resolves or rejects.
   *
   * @throws {DeviceError} if a copy from or to the device fails
   */
  move(call: GroupCall, flows: readonly MpiFlow[]): Promise<void> {
    this.#last = call;
    return this.#pinned.handle.use("move device memory", () => this.#move(call, flows));
  }

  async #move(call: GroupCall, flows: readonly MpiFlow[]): Promise<void> {
    let failure: unknown;
    const attempt = async (before: readonly (Promise<void> | undefined)[], step: () => Promise<void>) => {
      await Promise.all(before);
      if (failure !== undefined || call.status !== CALL_STATUS.done) return;
      try {
        await step();
      } catch (error) {
        failure ??= error;
        call.cancel(); // other ranks do not get what a move in progress would wait for
      }
    };
    const free = Array.from({ length: SLOTS }, () => Promise.resolve());
    let moved = Promise.resolve();
    for (const [index, load] of loadsOf(flows, this.slotBytes).entries()) {
      const slot = index % SLOTS, address = this.#pinned.address + BigInt(slot * this.slotBytes);
      const { from, to, tag } = load, receives = from !== -1;
      const memory = { host: null, address, byteLength: load.byteLength, device: -1 };
      await free[slot];
      const filled = receives ? undefined : attempt([], () => this.#fill(address, load));
      const step = () => moveMpi(this.#shim, call, [{ from, to, tag, memory }], (end) => end());
      moved = attempt([moved, filled], step);
      free[slot] = receives ? attempt([moved], () => this.#empty(address, load)) : moved;
    }
    await Promise.all(free);
    if (failure !== undefined) throw failure;
  }

  async #fill(slot: bigint, { parts }: Load): Promise<void> {
    for (const { address, byteLength } of parts) {
      const source = { device: this.device, address };
      await readToPinned(this.#shim, slot, source, byteLength, "copy from the device");
      slot += BigInt(byteLength);
    }
  }

  async #empty(slot: bigint, { parts }: Load): Promise<void> {
    for (const { address, byteLength } of parts) {
      const target = { device: this.device, address };
      await writeFromPinned(this.#shim, target, slot, byteLength, "copy to the device");
      slot += BigInt(byteLength);
    }
  }
}

/** The loads of the slots, those of the same root one after another. */
function loadsOf(flows: readonly MpiFlow[], slotBytes: number): Load[] {
  const loads: Load[] = [];
  const ordered = flows.toSorted((a, b) => a.tag - b.tag || a.to - b.to);
  for (const { from, to, tag, memory } of ordered) {
    for (let at = 0; at < memory.byteLength;) {
      let load = loads.at(-1);
      if (
        !load || load.tag !== tag || load.from !== from || load.to !== to || load.byteLength === slotBytes
      ) {
        loads.push(load = { from, to, tag, parts: [], byteLength: 0 });
      }
      const byteLength = Math.min(slotBytes - load.byteLength, memory.byteLength - at);
      load.parts.push({ address: memory.address + BigInt(at), byteLength });
      load.byteLength += byteLength;
      at += byteLength;
    }
  }
  return loads;
}

/** Copies memory of the same length within this rank, from or to a device or the host. */
export async function copyMemory(shim: Shim, to: CallMemory, from: CallMemory): Promise<void> {
  if (from.byteLength === 0) return;
  if (to.host && from.host) {
    // The operating system's copy must not be given the same memory twice.
    if (to.host.buffer === from.host.buffer) return to.host.set(from.host);
    const runs = { offset: 0, run: from.byteLength, levels: [] };
    return await gatherHost(shim, from.host, runs, to.host);
  }
  if (to.host) return await readDevice(shim, to.host, from, "copy from the device");
  if (from.host) return await writeDevice(shim, to, from.host, "copy to the device");
  if (to.address === from.address && to.device === from.device) return;
  await copyDevice(shim, to, from, from.byteLength, "copy on the device");
}
