/**
 * A program that loads the tensor "x" of a URL: prints the sum of its bytes, and the statistics.
 */
import { openRemote } from "./native_http_support.ts";

await using model = await openRemote(Deno.args[0]!);
const { bytes: loaded } = await model.getTensor("x");
await model.whenLoaded();
const { path, notes } = model.stats();
console.log(JSON.stringify({ sum: loaded.reduce((sum, byte) => sum + byte, 0), path, notes }));
