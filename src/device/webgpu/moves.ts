/**
 * Slices and joins on the GPU: by buffer copies if they are few and consist of whole words, else by a kernel that gathers
 * bytes.
 */
import type { Level } from "../../base/levels.ts";
import { runOffsets } from "../../format/strided.ts";
import { type Dispatch, PARAMETER_WORDS, PREAMBLE, WORKGROUP } from "./dispatch.ts";
import { floorTo, type Gpu } from "./gpu.ts";

/** A copy of bytes between two buffers: from strided runs of the source to rows of the target. */
export interface Move {
  /** The source buffer; not the target buffer. */
  readonly source: GPUBuffer;
  /** Offset of the first byte in the source. */
  readonly sourceOffset: number;
  /** Bytes of one run. */
  readonly run: number;
  /** Repetitions of the run in the source, outermost first; empty for one run. */
  readonly levels: readonly Level[];
  /** The target buffer. */
  readonly target: GPUBuffer;
  /** Offset of the first row in the target. */
  readonly targetOffset: number;
  /** Bytes from one row of the target to the next; each row has one run. Equal to the run's length if rows are dense. */
  readonly pitch: number;
}

/** The kernel that copies words or bytes from the runs of the source to the rows of the target; one invocation per word. */
const SHADER = `${PREAMBLE}
// The offset of a run in the source.
fn start(index: u32) -> u32 {
  var rest = index;
  var at = parameter(4u);
  for (var level = 0u; level < parameter(5u); level++) { // innermost first
    let count = parameter(8u + level * 2u);
    at += (rest % count) * parameter(9u + level * 2u);
    rest /= count;
  }
  return at;
}

@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let first = parameter(0u);
  let length = parameter(1u);
  let pitch = parameter(2u);
  let run = parameter(3u);
  let isWords = parameter(6u) == 1u;
  var value = 0u;
  var mask = 0u;
  for (var part = 0u; part < 4u; part++) {
    let at = id.x * 4u + part;
    if (at < first || at - first >= length) {
      continue;
    }
    let column = (at - first) % pitch;
    if (column >= run) {
      continue;
    }
    let byte = start((at - first) / pitch) + column;
    if (isWords) {
      output[id.x] = input[byte / 4u];
      return;
    }
    value |= ((input[byte / 4u] >> (byte % 4u * 8u)) & 0xffu) << (part * 8u);
    mask |= 0xffu << (part * 8u);
  }
  if (mask == 0xffffffffu) {
    output[id.x] = value;
  } else if (mask != 0u) {
    output[id.x] = (output[id.x] & ~mask) | value;
  }
}
`;

/** Most levels in the parameters. */
const MAX_LEVELS = (PARAMETER_WORDS - 8) / 2;

/** Most copies that cost less than the kernel. */
const MAX_COPIES = 64;

/** Most bytes of one dispatch, which the kernel counts with 32 bits. */
const MAX_SPAN = 2 ** 30;

/** One copy between buffers. */
export interface Copy {
  /** Offset in the source: a multiple of 4. */
  readonly from: number;
  /** Offset in the target: a multiple of 4. */
  readonly to: number;
  /** Number of bytes: a multiple of 4. */
  readonly byteLength: number;
}

/** Returns the copies of a move; null if a kernel is better. */
export function copiesOf(move: Move): Copy[] | null {
  const { levels, run, pitch } = move;
  const runs = levels.reduce((product, { count }) => product * count, 1);
  if (!isWords(move) || runs > MAX_COPIES) return null;
  return Array.from(runOffsets(move.sourceOffset, levels), (from, row) => {
    return { from, to: move.targetOffset + row * pitch, byteLength: run };
  });
}

function isWords({ sourceOffset, run, levels, targetOffset, pitch }: Move): boolean {
  return [sourceOffset, run, targetOffset, pitch, ...levels.map(({ stride }) => stride)].every((n) =>
    n % 4 === 0
  );
}

/** Yields the dispatches of a move, each within the limits of the device. */
export function* moveDispatches(gpu: Gpu, move: Move): Generator<Dispatch> {
  const { run, levels, pitch } = move;
  const { alignment, maxBindingBytes } = gpu;
  const rows = levels.reduce((product, { count }) => product * count, 1);
  const sourceSpan = levels.reduce((span, { count, stride }) => span + (count - 1) * stride, run);
  const targetSpan = (rows - 1) * pitch + run;
  const limit = Math.min(maxBindingBytes, MAX_SPAN) - alignment;
  const targetLimit = Math.min(limit, gpu.maxWorkgroups * WORKGROUP * 4 - alignment);
  if (sourceSpan > limit || targetSpan > targetLimit || levels.length > MAX_LEVELS) {
    for (const half of halves(move)) yield* moveDispatches(gpu, half);
    return;
  }
  const sourceBase = floorTo(move.sourceOffset, alignment);
  const targetBase = floorTo(move.targetOffset, alignment);
  const [sourceLead, targetLead] = [move.sourceOffset - sourceBase, move.targetOffset - targetBase];
  const words = Math.ceil((targetLead + targetSpan) / 4);
  yield {
    pipeline: gpu.pipeline("move", () => SHADER),
    source: { buffer: move.source, offset: sourceBase, size: Math.ceil((sourceLead + sourceSpan) / 4) * 4 },
    target: { buffer: move.target, offset: targetBase, size: words * 4 },
    parameters: [
      targetLead,
      targetSpan,
      pitch,
      run,
      sourceLead,
      levels.length,
      isWords(move) ? 1 : 0,
      0,
      ...levels.toReversed().flatMap(({ count, stride }) => [count, stride]),
    ],
    invocations: words,
  };
}

/** Divides a move in two: at the outermost level, or in the middle of its only run. */
function halves(move: Move): Move[] {
  const { levels: [level, ...inner], run, pitch } = move;
  if (!level) {
    const half = floorTo(Math.ceil(run / 2), 4);
    return [
      { ...move, run: half, pitch: half },
      {
        ...move,
        sourceOffset: move.sourceOffset + half,
        targetOffset: move.targetOffset + half,
        run: run - half,
      },
    ];
  }
  const half = level.count >> 1;
  const rows = inner.reduce((product, { count }) => product * count, half);
  const part = (count: number) => count > 1 ? [{ count, stride: level.stride }, ...inner] : inner;
  return [
    { ...move, levels: part(half) },
    {
      ...move,
      levels: part(level.count - half),
      sourceOffset: move.sourceOffset + half * level.stride,
      targetOffset: move.targetOffset + rows * pitch,
    },
  ];
}
