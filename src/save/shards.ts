/** Divides tensors among files, and makes the headers and the index. */
import type { Header } from "../format/header.ts";
import { headerLayoutSteps, type MetadataInput } from "../format/header_writer.ts";
import { STEP, type Steps } from "../base/steps.ts";
import { writeShardIndex } from "../format/shard_index.ts";
import { basename } from "../base/paths.ts";
import type { Item } from "./source.ts";

/** A file to write. */
export interface Shard {
  /** Its final path. */
  readonly path: string;
  /** Its first bytes: the length and the header. */
  readonly head: Uint8Array<ArrayBuffer>;
  /** The place of each tensor. */
  readonly header: Header;
  /** The size of the file in bytes. */
  readonly size: number;
}

/** The files of a save. */
export interface ShardPlan {
  readonly shards: readonly Shard[];
  /** The index, if there is more than one shard. */
  readonly index: { readonly path: string; readonly bytes: Uint8Array<ArrayBuffer> } | null;
}

const SUFFIX = ".safetensors";

/** The path of the index that a sharded save to `path` writes. */
export function indexPathOf(path: string): string {
  return `${stemOf(path)}${SUFFIX}.index.json`;
}

/**
 * Divides tensors among shards in the order given, as the Hub's tools do: a shard is full if the next tensor does
 * not fit. A tensor that is larger than a shard has its own, and the shard before it is continued after it. One
 * shard has the path itself, several have `-00001-of-00003` before the suffix, and an index.
 */
export function* shardSteps(
  items: Iterable<Item>,
  path: string,
  maxShardBytes: number,
  metadata: MetadataInput | undefined,
): Steps<ShardPlan> {
  const groups = yield* cut(items, maxShardBytes);
  const shards: Shard[] = [];
  for (const [number, group] of groups.entries()) {
    const specs = group.map((item) => ({ name: item.name, dtype: item.to, shape: item.shape }));
    const { bytes, header } = yield* headerLayoutSteps(specs, metadata);
    const size = header.dataStart + header.dataLength;
    shards.push({ path: shardPath(path, number, groups.length), head: bytes, header, size });
  }
  if (shards.length === 1) return { shards, index: null };
  const weightMap = new Map<string, string>();
  for (const shard of shards) {
    const file = basename(shard.path);
    for (const name of shard.header.tensors.keys()) {
      weightMap.set(name, file);
      if (weightMap.size % STEP === 0) yield;
    }
  }
  const total = shards.reduce((bytes, shard) => bytes + shard.header.dataLength, 0);
  return { shards, index: { path: indexPathOf(path), bytes: yield* writeShardIndex(weightMap, total) } };
}

function* cut(items: Iterable<Item>, maxShardBytes: number): Steps<Item[][]> {
  const groups: Item[][] = [];
  let open: Item[] = [];
  let size = 0;
  let step = 0;
  for (const item of items) {
    if (++step % STEP === 0) yield;
    if (item.fileBytes > maxShardBytes) {
      groups.push([item]);
      continue;
    }
    if (size + item.fileBytes > maxShardBytes) {
      groups.push(open);
      open = [];
      size = 0;
    }
    open.push(item);
    size += item.fileBytes;
  }
  if (open.length > 0 || groups.length === 0) groups.push(open);
  return groups;
}

function shardPath(path: string, number: number, count: number): string {
  if (count === 1) return path;
  const digits = (value: number) => String(value).padStart(5, "0");
  return `${stemOf(path)}-${digits(number + 1)}-of-${digits(count)}${SUFFIX}`;
}

/** The common part of the names of a set. */
export function stemOf(path: string): string {
  return path.endsWith(SUFFIX) ? path.slice(0, -SUFFIX.length) : path;
}
