/**
 * A contender: this saver. `this_saver.ts BYTES PATH <options as JSON>` prints the seconds of a save.
 *
 * The native library is opened before the clock starts, since the import of the Python contender opens its library
 * before its clock starts.
 */
import { prepare, saveFile } from "../../mod.ts";
import type { SaveOptions } from "../../mod.ts";

/** Bytes of one tensor, as in models of some billion parameters. */
const TENSOR_BYTES = 16 * 2 ** 20;

const [bytes, path, options] = [
  Number(Deno.args[0]),
  Deno.args[1]!,
  JSON.parse(Deno.args[2]!) as SaveOptions,
];
await prepare();
const tensors = new Map(
  Array.from({ length: Math.floor(bytes / TENSOR_BYTES) }, (_, index) => {
    const data = new Uint16Array(TENSOR_BYTES / 2);
    const words = new Uint32Array(data.buffer);
    for (let at = 0, state = index; at < words.length; at++) {
      words[at] = state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    }
    return [`layers.${index}.weight`, { dtype: "BF16", shape: [2048, 4096], data }] as const;
  }),
);

const start = performance.now();
await saveFile(tensors, path, options);
console.log((performance.now() - start) / 1000);
