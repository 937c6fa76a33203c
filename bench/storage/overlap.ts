/**
 * The gain of pipelined reads to a device: one half of the buffer is filled while the other half is copied.
 */
import { median } from "../side_by_side/report.ts";
import { formatTable } from "../../src/cli/text.ts";
import { runCombination } from "./run.ts";
import type { Combination, Range, Target } from "./sweep.ts";

/** GB/s of the turns, without pipelining and with it. */
export interface Overlap {
  readonly inTurns: readonly number[];
  readonly pipelined: readonly number[];
}

/** Reads the same files both ways. */
export async function compareOverlap(
  combination: Combination,
  files: readonly Range[],
  target: Target,
  iterations: number,
): Promise<Overlap> {
  const rates = async (pipelined: boolean) => {
    const samples = await runCombination({ ...combination, pipelined }, files, target, iterations);
    return samples.map(({ gigabytesPerSecond }) => gigabytesPerSecond);
  };
  return { inTurns: await rates(false), pipelined: await rates(true) };
}

/** Both as a table, with the ratio of their medians. */
export function formatOverlap({ inTurns, pipelined }: Overlap): string {
  const base = median(inTurns);
  const row = (name: string, rates: readonly number[]) => [
    name,
    median(rates).toFixed(3),
    `${Math.min(...rates).toFixed(3)} to ${Math.max(...rates).toFixed(3)}`,
    (median(rates) / base).toFixed(2),
  ];
  const rows = [row("read, then copy", inTurns), row("pipelined", pipelined)];
  return formatTable([["", "GB/s", "from to", "ratio"], ...rows], [1, 2, 3]);
}
