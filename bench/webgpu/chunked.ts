/**
 * A contender: the queue alone. `chunked.ts <piece bytes> FILE…` has the files in memory before the clock starts, and
 * writes them to one buffer each, piece by piece.
 */
import { createBuffer, measure } from "./contender.ts";

const piece = Number(Deno.args[0]);
const files = await Promise.all(Deno.args.slice(1).map((path) => Deno.readFile(path)));

await measure(
  (device) =>
    Promise.resolve(async () => {
      const buffers: GPUBuffer[] = [];
      for (const file of files) {
        const length = file.byteLength - file.byteLength % 4;
        const buffer = createBuffer(device, length);
        for (let at = 0; at < length; at += piece) {
          device.queue.writeBuffer(buffer, at, file, at, Math.min(piece, length - at));
          device.queue.submit([]);
        }
        buffers.push(buffer);
      }
      await device.queue.onSubmittedWorkDone();
      return buffers;
    }),
  files.reduce((sum, { byteLength }) => sum + byteLength, 0),
);
