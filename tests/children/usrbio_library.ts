/** Looks for the 3FS library, and prints its path or the reason why it cannot be used. */
import { createReader, getBackend, getHf3fsLibPath, isAvailable } from "../../src/three_fs/mod.ts";

const path = await getHf3fsLibPath();
let error: { name: string; library: string; message: string } | null = null;
try {
  await (await createReader({ backend: "usrbio" })).close();
} catch (caught) {
  const { name, library, message } = caught as { name: string; library: string; message: string };
  error = { name, library, message };
}
console.log(JSON.stringify({ path, available: await isAvailable(), backend: await getBackend(), error }));
