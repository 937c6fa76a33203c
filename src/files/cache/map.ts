/**
 * The map of a partial file: a text file beside it that lists the ranges whose bytes are in the partial file.
 *
 * A process appends a line for every range after it has written the bytes, so the map is right also if the process is
 * killed. After a power failure the system can have lost bytes that it still had in memory. A line "synced N" says that
 * the bytes of the first N ranges are on storage; the other ranges count only until the system restarts.
 */
import { type ByteRange, Ranges } from "./ranges.ts";

/** The content of a map. */
export interface PartialMap {
  /** The ranges that are there. */
  readonly ranges: Ranges;
  /** Those of them that are on storage. */
  readonly synced: Ranges;
}

const FIRST_LINE = /^fastsafetensors map 1 size=(\d{1,16}) boot=([\w-]+)$/;
const RANGE_LINE = /^(\d{1,16}) (\d{1,16})$/;

const SYNCED_LINE = /^synced (\d{1,9})$/;

/**
 * Returns the first line of a map.
 *
 * @param size bytes of the whole file
 * @param boot identifies the time since the system was started; null if unknown
 */
export function firstLine(size: number, boot: string | null): string {
  return `fastsafetensors map 1 size=${size} boot=${boot ?? "unknown"}\n`;
}

/** Returns the line of a range. */
export function rangeLine(start: number, stop: number): string {
  return `${start} ${stop - start}\n`;
}

/** Returns the line that says that the first `count` ranges are on storage. */
export function syncedLine(count: number): string {
  return `synced ${count}\n`;
}

/**
 * Parses a map. Everything from the first line on that is not complete or not valid is ignored: the end of a map can be
 * missing after a crash.
 *
 * @param size bytes of the whole file
 * @param boot as in {@linkcode firstLine}, of the running system
 * @returns null if it is not the map of a file of this size
 */
export function parseMap(text: string, size: number, boot: string | null): PartialMap | null {
  const lines = text.split("\n");
  lines.pop(); // empty, or a line without its end
  const [, mapSize, mapBoot] = FIRST_LINE.exec(lines.shift() ?? "") ?? [];
  if (Number(mapSize) !== size) return null;
  const listed: ByteRange[] = [];
  let onStorage = 0;
  for (const line of lines) {
    const [, count] = SYNCED_LINE.exec(line) ?? [];
    if (count !== undefined) {
      onStorage = Math.max(onStorage, Number(count));
      continue;
    }
    const [, offset, length] = RANGE_LINE.exec(line) ?? [];
    const start = Number(offset), stop = start + Number(length);
    if (offset === undefined || stop > size) break;
    listed.push({ start, stop });
  }
  const isSameBoot = boot !== null && mapBoot === boot;
  const ranges = new Ranges(), synced = new Ranges();
  for (const [index, { start, stop }] of listed.entries()) {
    if (index < onStorage) synced.add(start, stop);
    if (index < onStorage || isSameBoot) ranges.add(start, stop);
  }
  return { ranges, synced };
}
