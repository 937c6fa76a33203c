/**
 * Requests for tests of plans: many, unusual, and the same in every run.
 */
import type { DType } from "../../../src/base/dtype.ts";
import type { Level } from "../../../src/base/levels.ts";
import type { TensorRequest } from "../../../src/load/request.ts";
import { noise } from "../../support/models.ts";

const BYTES: readonly (readonly [DType, number])[] = [["U8", 1], ["F16", 2], ["BF16", 2], ["F32", 4], [
  "F64",
  8,
]];
const TARGETS: readonly DType[] = ["F8_E4M3", "F16", "F32", "F64"];

/** Numbers from 0 to below a limit, the same for the same seed. */
export function randomNumbers(seed: number): (limit: number) => number {
  const words = new Uint32Array(noise(4 * 4096, seed).buffer);
  let next = 0;
  return (limit) => words[next++ % words.length]! % limit;
}

/** A request with defaults for omitted fields. */
export function request(parts: Partial<TensorRequest> & { run: number }): TensorRequest {
  const dtype = parts.dtype ?? "U8";
  return {
    name: "x",
    shape: [],
    dtype,
    target: parts.target ?? dtype,
    file: 0,
    fileOffset: 0,
    levels: [],
    ...parts,
  };
}

/** Requests of one load: adjacent ones, gaps, empty ones, casts and strided ones, in a few files, in random order. */
export function randomRequests(seed: number): TensorRequest[] {
  const random = randomNumbers(seed);
  const requests: TensorRequest[] = [];
  const files = 1 + random(3);
  for (let file = 0; file < files; file++) {
    let offset = 100 + random(5000);
    for (let left = random(12); left >= 0; left--) {
      const [dtype, size] = BYTES[random(BYTES.length)]!;
      const target = size > 1 && random(3) === 0 ? TARGETS[random(TARGETS.length)]! : dtype;
      const elements = random(5) === 0 ? 0 : 1 + random(random(4) === 0 ? 40_000 : 600);
      const name = `${file}.${left}`;
      const levels: Level[] = [];
      const run = elements * size;
      let span = run;
      while (elements > 0 && levels.length < 4 && random(3) === 0) {
        const stride = span + size * random(random(2) ? 3000 : 4);
        const count = 2 + random(5);
        levels.unshift({ count, stride });
        span = (count - 1) * stride + span;
        if (span > 300_000) break;
      }
      requests.push(request({ name, dtype, target, file, fileOffset: offset, run, levels }));
      offset += span + (random(3) === 0 ? random(5000) : 0);
    }
  }
  return requests.sort((a, b) => a.run % 7 - b.run % 7);
}
