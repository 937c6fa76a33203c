/**
 * What was given back to CUDA devices, and is freed by the shim's own thread: nothing here waits on the event loop.
 */
import { DeviceError } from "../src/base/errors.ts";
import type { Shim } from "./symbols.ts";

/** What was given back since the process started, by all of its isolates. */
export interface Releases {
  /** How many. */
  readonly queued: number;
  /** How many of these have been freed; the others are pending. */
  readonly done: number;
  /** How many could not be freed. */
  readonly failed: number;
  /** The status of the latest of these. */
  readonly status: number;
}

/** How many releases there were, and how many are pending. */
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

/** The call that waits. All waiters of an isolate share one: each takes one of the few threads that Deno has for them. */
let waiting: Promise<void> | undefined;

/**
 * Resolves once all that has been given back so far is freed, which takes as long as the devices work.
 *
 * @throws {DeviceError} if the system gives no thread for it
 */
export async function releasesDone(shim: Shim): Promise<void> {
  const { queued } = releasesNow(shim);
  while (releasesNow(shim).done < queued) await (waiting ??= waitOnce(shim));
}

async function waitOnce(shim: Shim): Promise<void> {
  const status = await shim.fst_cuda_releases_wait(BigInt(releasesNow(shim).queued));
  waiting = undefined;
  if (status === 0) return;
  throw new DeviceError("Cannot free device memory: the system gives no thread for it", { library: "cuda" });
}

/**
 * Makes a call that needs memory; once more where there is too little of it and some was pending when it began.
 *
 * @param isShort whether the status says so
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
