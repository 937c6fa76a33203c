/**
 * Loads a file to the GPU and ends without closing the model, in one of several ways.
 */
import { fastsafeOpen } from "../../mod.ts";

const [path, way] = Deno.args as [string, string];
const model = await fastsafeOpen(path, {
  device: "cuda",
  blockBytes: way.startsWith("released") ? 2 ** 20 : 4096,
});
if (way !== "loading") await model.whenLoaded();
const tensor = await model.getTensor("x");
if (way.startsWith("released")) {
  tensor.to({ dtype: "F16" }).then((copy) => copy[Symbol.dispose](), () => {}); // cudaFree waits for this
  await new Promise((resolve) => setTimeout(resolve, 20));
  await model.close();
  tensor[Symbol.dispose]();
}
if (way === "exit" || way === "released, exit") Deno.exit(3);
if (way === "throw") throw new Error(`${tensor.name} is enough`);
