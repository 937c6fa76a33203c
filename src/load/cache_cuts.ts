/**
 * Cuts plans where a cache begins or ends to have the bytes of a file: each segment then comes from one of the two.
 */
import type { RemoteFile } from "../files/http/remote_file.ts";
import type { SourceFile } from "../files/source.ts";
import type { PlanOptions } from "./plan.ts";

/** Returns the option `cut` of a plan; undefined if no file is read through a cache. */
export function cacheCuts(files: readonly SourceFile[]): PlanOptions["cut"] {
  const caches = files.map((file) => (file as SourceFile & Pick<RemoteFile, "cache">).cache);
  if (!caches.some((cache) => cache)) return undefined;
  return (file, at, stop) => {
    const [piece] = caches[file]?.pieces(at, stop - at) ?? [];
    return piece?.stop ?? stop;
  };
}
