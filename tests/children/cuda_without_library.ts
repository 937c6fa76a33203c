/**
 * Loads a file to the GPU without libcudart, then to the CPU; prints the results.
 */
import { type DeviceError, fastsafeOpen } from "../../mod.ts";

const path = Deno.args[0]!;
try {
  await using _model = await fastsafeOpen(path, { device: "cuda" });
  throw new Error("There is a libcudart");
} catch (error) {
  const { name, message, library, code } = error as DeviceError;
  await using model = await fastsafeOpen(path);
  const { byteLength } = await model.getTensor("first");
  console.log(JSON.stringify({ name, message, library, code, onCpu: byteLength }));
}
