/**
 * The axes of the measurement: bytes of the model, number of its tensors, lanes of the loader, bytes that are cast, ranks
 * that divide the columns. Each axis has points, each point has files and contenders: this loader, and the limit probe
 * of its task on the same files.
 */
import { writeSyntheticModel } from "../../src/cli/synthetic_model.ts";
import { evenTensors } from "../headers.ts";
import { type Contender, limit, thisLoader } from "../side_by_side/contenders.ts";
import { castContenders, columnContenders } from "../side_by_side/tasks.ts";
import type { Tools } from "../side_by_side/tools.ts";

/** The axes of plain reads, which share a chart. */
export const READ_AXES = ["bytes", "tensors", "threads"] as const;

/** The axes, in the order in which they are measured and shown. */
export const AXES = [...READ_AXES, "cast", "columns"] as const;

/** The varied quantity. */
export type Axis = (typeof AXES)[number];

/** One value on an axis, before it is measured. */
export interface Place {
  /** Bytes of the tensors, number of tensors, lanes, or ranks. */
  readonly value: number;
  /** Bytes of the files. */
  readonly bytes: number;
  readonly contenders: readonly Contender[];
}

/** The sizes of the models. */
export interface Extent {
  /** Of the axis of bytes: of each model. */
  readonly sizes: readonly number[];
  /** Of the axis of tensors. */
  readonly tensors: { readonly counts: readonly number[]; readonly bytes: number };
  /** Of the axis of lanes; the model is the one of `sizes` with so many bytes. */
  readonly threads: { readonly counts: readonly number[]; readonly bytes: number };
  /** Of the axis of casts: of each model, also one of `sizes`. */
  readonly cast: readonly number[];
  /** Of the axis of columns: numbers of ranks; the model is the one of `sizes` with so many bytes. */
  readonly columns: { readonly counts: readonly number[]; readonly bytes: number };
}

const MIB = 2 ** 20;

/** The sizes for published figures. */
export const FULL: Extent = {
  sizes: [64 * MIB, 256 * MIB, 1024 * MIB, 2048 * MIB],
  tensors: { counts: [10, 100, 1000, 10_000, 100_000], bytes: 256 * MIB },
  threads: { counts: [1, 2, 4, 8], bytes: 1024 * MIB },
  cast: [64 * MIB, 256 * MIB, 1024 * MIB, 2048 * MIB],
  columns: { counts: [2, 4, 8, 16], bytes: 1024 * MIB },
};

/** The sizes for a quick trial. */
export const QUICK: Extent = {
  sizes: [8 * MIB, 16 * MIB],
  tensors: { counts: [10, 1000], bytes: 8 * MIB },
  threads: { counts: [1, 2], bytes: 16 * MIB },
  cast: [8 * MIB, 16 * MIB],
  columns: { counts: [2, 4], bytes: 16 * MIB },
};

/** The limit of a point is the best of these numbers of threads, except on the axis of lanes. */
const PROBE_THREADS = [2, 8];

/** Creates the models in a folder, and returns the axes with their contenders. */
export async function preparePlaces(
  tools: Tools,
  folder: string,
  { sizes, tensors, threads, cast, columns }: Extent,
): Promise<Record<Axis, readonly Place[]>> {
  const models = new Map<number, readonly string[]>();
  for (const bytes of sizes) {
    const place = `${folder}/${bytes}`;
    await Deno.mkdir(place);
    models.set(bytes, (await writeSyntheticModel(place, { bytes })).paths);
  }
  const probes = (files: readonly string[]) =>
    PROBE_THREADS.map((count) => limit(tools, files, ["hot"], [], count));
  return {
    bytes: await Promise.all(
      models.entries().map(([bytes, files]) => {
        return placeOf(bytes, files, [...probes(files), thisLoader("this loader", files)]);
      }),
    ),
    tensors: await Promise.all(tensors.counts.map(async (count) => {
      const files = [`${folder}/${count}_tensors.safetensors`];
      await writeEvenTensors(files[0]!, count, tensors.bytes);
      return await placeOf(count, files, [...probes(files), thisLoader("this loader", files)]);
    })),
    threads: await Promise.all(threads.counts.map((count) => {
      const files = models.get(threads.bytes)!;
      const options = { maxThreads: count };
      return placeOf(count, files, [
        limit(tools, files, ["hot"], [], count),
        thisLoader("this loader", files, options),
      ]);
    })),
    cast: await Promise.all(cast.map(async (bytes) => {
      const files = models.get(bytes)!;
      const all = await castContenders(tools, files, PROBE_THREADS);
      return await placeOf(bytes, files, all.filter(({ kinds }) => kinds.includes("hot")));
    })),
    columns: await Promise.all(columns.counts.map(async (count) => {
      const files = models.get(columns.bytes)!;
      const all = await columnContenders(tools, folder, files, count, PROBE_THREADS);
      return await placeOf(count, files, all.filter(({ kinds }) => kinds.includes("hot")));
    })),
  };
}

async function placeOf(
  value: number,
  files: readonly string[],
  contenders: readonly Contender[],
): Promise<Place> {
  const infos = await Promise.all(files.map((file) => Deno.stat(file)));
  return { value, bytes: infos.reduce((sum, { size }) => sum + size, 0), contenders };
}

/** Writes every byte: a sparse file would be read faster. */
async function writeEvenTensors(path: string, count: number, bytes: number): Promise<void> {
  const { head, dataLength } = evenTensors(count, bytes);
  await Deno.writeFile(path, head);
  const piece = Uint8Array.from({ length: MIB }, (_, index) => index * 167 >> 3);
  using file = await Deno.open(path, { append: true });
  for (let left = dataLength; left > 0;) left -= await file.write(piece.subarray(0, Math.min(left, MIB)));
}
