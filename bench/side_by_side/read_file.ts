/**
 * A contender: the usual code without a library. `read_file.ts FILE…` reads files with `Deno.readFile`, parses their
 * headers and makes views; it prints a {@linkcode Sample}.
 */
import { peakMemory, type Sample, StallWatch, touchMemory } from "./sample.ts";

touchMemory();
const watch = new StallWatch();
const start = performance.now();
const contents = await Promise.all(Deno.args.map((file) => Deno.readFile(file)));
const tensors = new Map<string, Uint8Array>();
for (const bytes of contents) {
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header: Record<string, { data_offsets: [number, number] }> = JSON.parse(
    new TextDecoder().decode(bytes.subarray(8, 8 + length)),
  );
  for (const [name, { data_offsets }] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [begin, end] = data_offsets;
    tensors.set(name, bytes.subarray(8 + length + begin, 8 + length + end));
  }
}
const seconds = (performance.now() - start) / 1000;
const stall = watch.stop();

const destination = tensors.values().reduce((sum, tensor) => sum + tensor.byteLength, 0);
const sample: Sample = { seconds, beyondDestination: peakMemory() - destination, stall };
console.log(JSON.stringify(sample));
