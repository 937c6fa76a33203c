/** Loads the tensor "x" of a file, and prints the engine. */
import { fastsafeOpen } from "../../mod.ts";

await using model = await fastsafeOpen(Deno.args[0]!, { lazy: true });
const { bytes } = await model.getTensor("x");
console.log(model.stats().path === "portable" ? "portable" : "native", bytes.byteLength, bytes.at(-1));
