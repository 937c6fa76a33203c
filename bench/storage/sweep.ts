/**
 * The runs of a sweep: every combination of its settings, with the number of processes in it.
 */
import type { Backend } from "../../src/three_fs/mod.ts";

/** One way to read. */
export interface Combination {
  readonly backend: Backend;
  /** Bytes of the buffer of each process. */
  readonly bufferBytes: number;
  /** Bytes of one request. */
  readonly chunkBytes: number;
  /** Parallel processes, each with its share. */
  readonly processes: number;
  /** Whether one half of the buffer is filled while the other half is copied. */
  readonly pipelined: boolean;
}

/** The settings of a sweep, each with one value or more. */
export type Settings = { readonly [K in keyof Combination]: readonly Combination[K][] };

/** A part of a file. */
export interface Range {
  readonly path: string;
  readonly offset: number;
  readonly length: number;
}

/** The destination of the bytes: none ("download only"), host memory, or a device. */
export type Target = "none" | "host" | `cuda:${number}`;

/** Every combination; a chunk larger than the buffer, or its half, would be measured twice. */
export function combinations(settings: Settings): Combination[] {
  const all: Combination[] = [];
  for (const backend of settings.backend) {
    for (const bufferBytes of settings.bufferBytes) {
      for (const chunkBytes of settings.chunkBytes) {
        for (const processes of settings.processes) {
          for (const pipelined of settings.pipelined) {
            const available = pipelined ? bufferBytes / 2 : bufferBytes;
            if (chunkBytes <= available) all.push({ backend, bufferBytes, chunkBytes, processes, pipelined });
          }
        }
      }
    }
  }
  return all;
}

/** The first value of each setting. */
export function single(settings: Settings): Settings {
  return {
    backend: settings.backend.slice(0, 1),
    bufferBytes: settings.bufferBytes.slice(0, 1),
    chunkBytes: settings.chunkBytes.slice(0, 1),
    processes: settings.processes.slice(0, 1),
    pipelined: settings.pipelined.slice(0, 1),
  };
}

/** Shares of all files, of the same size but for a few bytes, one for each process. */
export function share(files: readonly Range[], processes: number): Range[][] {
  const total = files.reduce((sum, { length }) => sum + length, 0);
  const shares: Range[][] = Array.from({ length: processes }, () => []);
  let before = 0;
  for (const { path, offset, length } of files) {
    for (let process = 0; process < processes; process++) {
      const start = Math.max(before, Math.floor(total * process / processes));
      const stop = Math.min(before + length, Math.floor(total * (process + 1) / processes));
      if (start < stop) {
        shares[process]!.push({ path, offset: offset + start - before, length: stop - start });
      }
    }
    before += length;
  }
  return shares;
}
