/**
 * Loads the shards of bench/latency/latency_fs.c and compares their bytes with its formula:
 * `late_storage.ts <options as JSON> FILE…` prints the statistics, or the error, as JSON.
 */
import { Buffer } from "node:buffer";
import { fastsafeOpen, ReadError } from "../../mod.ts";

const PAGE = 4096, PERIOD = 61 * PAGE, TENSOR = 2 ** 24;

/** The pattern: splitmix64 with the seed 0. */
function patternOf(): Uint8Array {
  const words = new BigUint64Array(PERIOD / 8);
  const mask = 2n ** 64n - 1n;
  for (let index = 0; index < words.length; index++) {
    let z = BigInt(index + 1) * 0x9E3779B97F4A7C15n & mask;
    z = (z ^ z >> 30n) * 0xBF58476D1CE4E5B9n & mask;
    z = (z ^ z >> 27n) * 0x94D049BB133111EBn & mask;
    words[index] = z ^ z >> 31n;
  }
  return new Uint8Array(words.buffer);
}

/** The shard's bytes from a position in its data on. */
function expected(pattern: Uint8Array, shard: number, position: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length;) {
    const place = (position + PAGE + done + shard * PAGE) % PERIOD; // the header is one page
    const part = pattern.subarray(place, place + length - done);
    bytes.set(part, done);
    done += part.length;
  }
  return bytes;
}

const [options, ...files] = Deno.args;
try {
  await using model = await fastsafeOpen(files, JSON.parse(options!));
  await model.whenLoaded();
  const pattern = patternOf();
  let wrong = 0;
  for await (const [name, tensor] of model) {
    const [, shard, layer] = /shard_(\d+)\.layer_(\d+)/.exec(name)!;
    const right = expected(pattern, Number(shard), Number(layer) * TENSOR, TENSOR);
    if (Buffer.compare(tensor.bytes, right) !== 0) wrong++;
  }
  const { path, threads, notes } = model.stats();
  console.log(JSON.stringify({ path, threads, notes, wrong }));
} catch (error) {
  if (!(error instanceof ReadError)) throw error;
  const { message, errno, path } = error;
  console.log(JSON.stringify({ error: message, errno, path }));
}
