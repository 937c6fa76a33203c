/**
 * A program for process_test.ts: transfers the memory of a running load, so that it is collected and used again while
 * lanes still write. Needs the build that can be made to fail, and `--v8-flags=--expose-gc`.
 */
import { openAdded } from "../support/test_library.ts";
import { fastsafeOpen } from "../../mod.ts";

declare const gc: () => void;

openAdded(Deno.env.get("FASTSAFETENSORS_LIB")!).setFaults("pread:*:delay=2000,preaddirect:*:delay=2000");
for (let round = 0; round < 5; round++) {
  const model = await fastsafeOpen(Deno.args[0]!, { blockBytes: 65_536, maxThreads: 4 });
  const first = await model.getTensor("first");
  first.bytes.buffer.transfer(round % 2 ? 0 : undefined);
  gc();
  const mine = Array.from({ length: 64 }, () => new Uint8Array(131_072).fill(0xaa));
  gc();
  const error = await model.getTensor("rest").catch((error) => error);
  if (!(error instanceof TypeError)) throw error;
  if (!mine.every((bytes) => bytes.every((byte) => byte === 0xaa))) {
    throw new Error("Foreign memory was written");
  }
  await model.close();
}
// And a model without references, during a load.
await fastsafeOpen(Deno.args[0]!, { blockBytes: 65_536 });
gc();
console.log("intact");
