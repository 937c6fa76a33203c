/** Loads from its own source to the CPU, without the native library. */
import { fastsafeOpen, serialize, type Source } from "../../mod.ts";

const bytes = serialize({ x: { dtype: "U8", shape: [1], data: new Uint8Array([7]) } });
const source: Source = {
  name: "memory",
  open: (path) =>
    Promise.resolve({
      path,
      size: bytes.byteLength,
      head: bytes,
      releaseHead() {},
      close() {},
      read(offset, target) {
        target.set(bytes.subarray(offset, offset + target.byteLength));
        return Promise.resolve();
      },
    }),
};
await using model = await fastsafeOpen("m://x", { source });
console.log((await model.getTensor("x", { device: "cpu" })).bytes[0]);
console.log((await model.getSlice("x", [0, 1], { device: "cpu" })).bytes[0]);
