/**
 * Loads a file to the GPU and ends without closing anything, in one of several ways.
 */
import { fastsafeOpen } from "../../mod.ts";

const [path, way] = Deno.args as [string, string];
const model = await fastsafeOpen(path, { device: "cuda", blockBytes: 4096 });
if (way !== "loading") await model.whenLoaded();
const tensor = await model.getTensor("x");
if (way === "exit") Deno.exit(3);
if (way === "throw") throw new Error(`${tensor.name} is enough`);
