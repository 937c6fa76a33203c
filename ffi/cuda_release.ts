/**
 * Releases of CUDA memory. A thread of the shim frees the memory, so that the event loop does not wait for devices.
 */
import { DeviceError } from "../src/base/errors.ts";
import type { Shim } from "./symbols.ts";

/** The releases since the process started, by all of its isolates. */
export interface Releases {
  /** Number of releases. */
  readonly queued: number;
  /** Number of completed releases; the others are pending. */
  readonly done: number;
  /** Number of failed releases. */
  readonly failed: number;
  /** The status of the last failed release. */
  readonly status: number;
}

/** Returns the counts of the releases. */
export function releasesNow(shim: Shim): Releases {
  const view = new DataView(new ArrayBuffer(24));
  shim.fst_cuda_releases_now(view.buffer);
  return {
    queued: Number(view.getBigUint64(0, true)),
    done: Number(view.getBigUint64(8, true)),
    failed: view.getUint32(16, true),
    status: view.getInt32(20, true),
  };
}

/** The call that waits. All callers of an isolate share it, because it uses one of Deno's few threads for such calls. */
let waiting: Promise<void> | undefined;

/**
 * Resolves after all releases so far have completed, which can wait for work of the devices.
 *
 * @throws {DeviceError} if the system cannot start a thread
 */
export async function releasesDone(shim: Shim): Promise<void> {
  const { queued } = releasesNow(shim);
  while (releasesNow(shim).done < queued) await (waiting ??= waitOnce(shim));
}

async function waitOnce(shim: Shim): Promise<void> {
  const status = await shim.fst_cuda_releases_wait(BigInt(releasesNow(shim).queued));
  waiting = undefined;
  if (status === 0) return;
  throw new DeviceError("Cannot free device memory: the system cannot start a thread", { library: "cuda" });
}

/**
 * Makes a call that needs memory. If there is too little and releases were pending at its start, waits for them and makes
 * the call again.
 *
 * @param isShort whether a status means too little memory
 */
export async function retryAfterReleases(
  shim: Shim,
  isShort: (status: number) => boolean,
  call: () => Promise<number>,
): Promise<number> {
  const { queued, done } = releasesNow(shim);
  const status = await call();
  if (!isShort(status) || queued === done) return status;
  await releasesDone(shim);
  return await call();
}
