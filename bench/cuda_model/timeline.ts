/**
 * The timeline that the model in the stand-in for CUDA writes (tests/sim/cuda/model.c).
 */

/** The engines of the model: "driver" allocates and pins, "compute" casts and moves. */
export type Engine = "read" | "to device" | "from device" | "compute" | "driver";

/** One operation; times in nanoseconds of the model. */
export interface Operation {
  readonly engine: Engine;
  /** The thread that waited for it: of reads, the lane. */
  readonly thread: number;
  readonly start: number;
  readonly end: number;
  readonly bytes: number;
  /** The function, or "read". */
  readonly call: string;
}

/** A process on the model. */
export interface Timeline {
  readonly operations: readonly Operation[];
  /** GB/s of storage, and of the link to the device. */
  readonly readRate: number;
  readonly copyRate: number;
}

/** Reads the file that the model has written. */
export async function readTimeline(path: string): Promise<Timeline> {
  const { events, readGbps, copyGbps } = JSON.parse(await Deno.readTextFile(path)) as {
    events: [Engine, number, number, number, number, string][];
    readGbps: number;
    copyGbps: number;
  };
  const operations = events.map(([engine, thread, start, end, bytes, call]): Operation => {
    return { engine, thread, start, end, bytes, call };
  });
  return { operations, readRate: readGbps, copyRate: copyGbps };
}

/** The operations that begin and end between two times. */
export function between({ operations }: Timeline, start: number, end: number): Operation[] {
  return operations.filter((one) => one.start >= start && one.end <= end);
}
