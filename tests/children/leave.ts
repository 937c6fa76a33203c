/**
 * A program for process_test.ts: ends during a load, in the way that its second argument names.
 */
import { fastsafeOpen } from "../../mod.ts";

const model = await fastsafeOpen(Deno.args[0]!, { blockBytes: 4096, maxThreads: 2 });
const way = Deno.args[1];
console.log("loading");
if (way === "exit") Deno.exit(7);
if (way === "throw") throw new Error("of the user");
if (way === "reject") await model.getTensor("missing");
