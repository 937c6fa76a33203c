/**
 * One process that opens files: `open.ts <times> <file or folder>` prints a {@linkcode Opening}.
 *
 * The native library is opened before the clock starts.
 */
import { fastsafeOpen, prepare, SafeTensorsError } from "../../mod.ts";
import { peakMemory } from "../side_by_side/sample.ts";

/** The results. */
export interface Opening {
  /** Seconds of each time. */
  readonly seconds: readonly number[];
  /** Tensors found, or the code of the error. */
  readonly outcome: string;
  /** The most resident memory that the process ever had, in bytes. */
  readonly peak: number;
}

await prepare();
const [times, path] = Deno.args;
const seconds: number[] = [];
let outcome = "";
while (seconds.length < Number(times)) {
  const start = performance.now();
  try {
    const model = await fastsafeOpen(path!, { lazy: true });
    seconds.push((performance.now() - start) / 1000);
    outcome = `${model.keys().length} tensors`;
    await model.close();
  } catch (error) {
    if (!(error instanceof SafeTensorsError)) throw error;
    seconds.push((performance.now() - start) / 1000);
    outcome = error.code;
  }
}
console.log(JSON.stringify({ seconds, outcome, peak: peakMemory() } satisfies Opening));
