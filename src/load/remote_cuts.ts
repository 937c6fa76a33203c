/**
 * Cuts plans of files on servers: where a cache begins or ends to have the bytes, so that each segment comes from one of
 * the two, and near the beginning, so that the first tensors are complete early.
 */
import type { RemoteFile } from "../files/http/remote_file.ts";
import type { SourceFile } from "../files/source.ts";
import type { PlanOptions } from "./plan.ts";

/** Bytes of each of the first segments, and of all of them: as many as there are connections. */
const EARLY_SEGMENT = 2 ** 20, EARLY_BYTES = 16 * EARLY_SEGMENT;

/** Files with fewer bytes, all together, come so soon that more requests are not worth it. */
const LEAST_BYTES = 8 * EARLY_BYTES;

/** Returns the option `cut` of a plan; undefined if all files are local. */
export function remoteCuts(files: readonly SourceFile[]): PlanOptions["cut"] {
  const caches = files.map((file) => (file as SourceFile & Pick<RemoteFile, "cache">).cache);
  const isRemote = files.map((file, index) =>
    caches[index] !== undefined || file.way?.(0, file.size) === "http"
  );
  if (!isRemote.includes(true)) return undefined;
  const bytes = files.reduce((sum, { size }) => sum + size, 0);
  let early = bytes < LEAST_BYTES ? 0 : EARLY_BYTES;
  return (file, at, stop) => {
    const [piece] = caches[file]?.pieces(at, stop - at) ?? [];
    let next = piece?.stop ?? stop;
    if (early <= 0 || !isRemote[file] || piece?.has) return next;
    next = Math.min(next, at + EARLY_SEGMENT);
    early -= next - at;
    return next;
  };
}
