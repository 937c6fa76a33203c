/**
 * A program for save/place_test.ts: saves to a refused place, and prints the error.
 */
import { saveFile, WriteError } from "../../mod.ts";

try {
  await saveFile({ x: { dtype: "U8", shape: [1], data: new Uint8Array(1) } }, Deno.args[0]!);
} catch (error) {
  const { name, message } = error as Error;
  console.log(JSON.stringify({ name, message, errno: error instanceof WriteError ? error.errno : null }));
}
