/**
 * A program for process_test.ts: ends workers during a load, and checks whether their lanes write to memory that
 * has other users meanwhile. Needs the build that can be made to fail.
 */
import { openAdded } from "../support/test_library.ts";
import { fastsafeOpen } from "../../mod.ts";

/** In a worker: a slow load, which is reported after its start. */
async function load(path: string): Promise<void> {
  openAdded(Deno.env.get("FASTSAFETENSORS_LIB")!).setFaults("pread:*:delay=5000,preaddirect:*:delay=5000");
  await using model = await fastsafeOpen(path, { blockBytes: 65_536, maxThreads: 4 });
  (self as unknown as Worker).postMessage("loading");
  await model.whenLoaded();
}

/** In the main thread: ends the worker, and allocates as much memory as it had. */
async function terminate(path: string): Promise<void> {
  const worker = new Worker(`${import.meta.url}#worker`, { type: "module", name: path });
  await new Promise((resolve) => worker.onmessage = resolve);
  worker.terminate();
  const mine = Array.from({ length: 20 }, () => new Uint8Array(2 ** 20).fill(0xaa));
  await new Promise((resolve) => setTimeout(resolve, 200));
  if (!mine.every((bytes) => bytes.every((byte) => byte === 0xaa))) {
    throw new Error("Foreign memory was written");
  }
}

if (import.meta.url.endsWith("#worker")) {
  await load(self.name);
} else {
  for (let round = 0; round < 4; round++) await terminate(Deno.args[0]!);
  console.log("intact");
}
