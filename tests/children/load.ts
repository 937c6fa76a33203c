/**
 * A program for process_test.ts: loads a file and prints the kind of reads, and the sum of its bytes.
 */
import { fastsafeOpen } from "../../mod.ts";

await using model = await fastsafeOpen(Deno.args[0]!);
let sum = 0;
for await (const [, tensor] of model) for (const byte of tensor.bytes) sum += byte;
await model.whenLoaded();
console.log(JSON.stringify({ path: model.stats().path, sum }));
