/**
 * A contender: the simplest code. `naive.ts FILE…` reads each file with `Deno.readFile` and writes each tensor
 * with one `writeBuffer` to its own buffer.
 */
import { createBuffer, measure, placesOf } from "./contender.ts";

await measure((device) =>
  Promise.resolve(async () => {
    const buffers: GPUBuffer[] = [];
    for (const path of Deno.args) {
      const file = await Deno.readFile(path);
      for (const { begin, end } of placesOf(file)) {
        const buffer = createBuffer(device, end - begin);
        device.queue.writeBuffer(buffer, 0, file, begin, end - begin);
        buffers.push(buffer);
      }
    }
    await device.queue.onSubmittedWorkDone();
    return buffers;
  })
);
