/**
 * The names of CUDA devices.
 */

/** A CUDA device: "cuda" is the first, "cuda:1" the second. */
export type CudaName = "cuda" | `cuda:${number}`;

/** Whether a name is that of a CUDA device; this machine does not have to have it. */
export function isCudaName(name: unknown): name is CudaName {
  return typeof name === "string" && /^cuda(:\d{1,3})?$/.test(name);
}

/**
 * Returns the index of a CUDA device.
 *
 * @throws {TypeError} if the name is not that of a CUDA device
 */
export function cudaIndex(name: CudaName): number {
  if (!isCudaName(name)) {
    throw new TypeError(`Cannot use device ${JSON.stringify(name)}: it is not a CUDA device`);
  }
  return name === "cuda" ? 0 : Number(name.slice("cuda:".length));
}
