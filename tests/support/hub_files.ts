/**
 * The answers of the Hub for one model, for a server of the tests.
 */
import { createHash } from "node:crypto";
import type { ServedFiles } from "./faulty_server.ts";

/** A model on the stand-in. */
export interface HubModel {
  readonly id: string;
  readonly commit: string;
  /** Path → bytes. */
  readonly files: Readonly<Record<string, Uint8Array>>;
}

/** Returns what the Hub serves for a model, whose branch main is its commit. */
export function hubFiles({ id, commit, files }: HubModel): ServedFiles {
  const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
  const tree = Object.entries(files).map(([path, bytes]) => {
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    const oid = createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
    const lfs = path.endsWith(".safetensors")
      ? { lfs: { oid: sha256, size: bytes.length, pointerSize: 130 } }
      : {};
    return { type: "file", path, size: bytes.length, oid, ...lfs };
  });
  return {
    [`/api/models/${id}/revision/main`]: json({ id, sha: commit }),
    [`/api/models/${id}/tree/${commit}`]: json(tree),
    ...Object.fromEntries(
      Object.entries(files).flatMap(([path, bytes]) =>
        [commit, "main"].map((revision) => [`/${id}/resolve/${revision}/${path}`, bytes])
      ),
    ),
  };
}
