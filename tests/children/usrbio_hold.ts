/** Reads from a file on 3FS, reports that, and then keeps its ring until it is ended. */
import { createReader } from "../../src/three_fs/mod.ts";

const reader = await createReader({ backend: "usrbio" });
const path = Deno.args[0]!;
await reader.readChunked({ path, totalLength: 100 });
console.log("holding");
await new Promise((resolve) => setTimeout(resolve, 600_000));
