/**
 * Reads all tensors of a file on 3FS by loads that run at once, and prints their number, or the error. With the
 * argument "fill", another file uses all of /dev/shm after the file is open.
 */
import { fastsafeOpen } from "../../mod.ts";

async function fill(path: string): Promise<void> {
  using file = await Deno.open(path, { write: true, createNew: true });
  try {
    for (;;) await file.write(new Uint8Array(4096));
  } catch { /* it is full */ }
}

try {
  await using model = await fastsafeOpen(Deno.args[0]!, {
    source: "3fs",
    lazy: true,
    maxThreads: 8,
    blockBytes: 65_536,
  });
  if (Deno.args[1] === "fill") await fill("/dev/shm/of-another-program");
  const loads: Promise<unknown>[] = [];
  for (const name of model.keys()) {
    loads.push(model.getTensor(name));
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  console.log(`${(await Promise.all(loads)).length} tensors`);
} catch (error) {
  console.log((error as Error).message);
}
