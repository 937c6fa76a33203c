/**
 * A synthetic model in shards with an index, for demonstrations and measurements.
 *
 * This file writes it without the library and computes the checksums meanwhile, so that they can verify a loader.
 * Memory use does not depend on the size.
 */
import { sha256 } from "../base/sha256.ts";

/** Options of {@linkcode writeModel}. */
export interface SyntheticModelOptions {
  /** Bytes of all tensors together. */
  readonly bytes: number;
  /** Files. Default 4. */
  readonly shards?: number;
  /** Stops the writing. */
  readonly signal?: AbortSignal;
  /** Called with the bytes written so far. */
  readonly onProgress?: (bytes: number) => void;
}

/** The written files. */
export interface SyntheticModel {
  /** The shards, in order. */
  readonly paths: readonly string[];
  /** The index. */
  readonly indexPath: string;
  /** Tensor name → SHA-256 of its bytes, in hexadecimal. */
  readonly checksums: ReadonlyMap<string, string>;
}

/** A tensor to be written. */
interface Plan {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly byteLength: number;
}

/** The width of the model's matrices, in elements. */
const WIDTH = 4096;

/** Most tensors have this many bytes; no buffer is larger. */
const TENSOR_BYTES = 16 * 2 ** 20;

/**
 * Writes a model into a folder.
 *
 * @throws {Error} if the folder cannot be written; or the signal's reason
 */
export async function writeSyntheticModel(
  folder: string,
  options: SyntheticModelOptions,
): Promise<SyntheticModel> {
  const { bytes, shards = 4 } = options;
  const paths: string[] = [];
  const checksums = new Map<string, string>();
  const weightMap: Record<string, string> = {};
  const random = new RandomBytes();
  let written = 0;
  for (let shard = 0; shard < shards; shard++) {
    const number = (index: number) => String(index).padStart(5, "0");
    const file = `model-${number(shard + 1)}-of-${number(shards)}.safetensors`;
    const end = Math.floor(bytes * (shard + 1) / shards), start = Math.floor(bytes * shard / shards);
    const plans = planShard(shard, end - start);
    using output = await Deno.open(`${folder}/${file}`, { write: true, createNew: true });
    await writeAll(output, encodeHeader(plans));
    let checksum: Promise<unknown> = Promise.resolve();
    for (const { name, byteLength } of plans) {
      options.signal?.throwIfAborted();
      const data = random.next(byteLength);
      await checksum; // one at a time: each holds a copy
      checksum = sha256(data).then((hash) => checksums.set(name, hash));
      await writeAll(output, data);
      weightMap[name] = file;
      options.onProgress?.(written += byteLength);
    }
    await checksum;
    paths.push(`${folder}/${file}`);
  }
  const indexPath = `${folder}/model.safetensors.index.json`;
  const index = { metadata: { total_size: bytes }, weight_map: weightMap };
  await Deno.writeTextFile(indexPath, JSON.stringify(index, null, 2));
  return { paths, indexPath, checksums };
}

/** Tensors with a total of `bytes` bytes: a norm, as many matrices as fit, and a remainder. */
function planShard(shard: number, bytes: number): Plan[] {
  const plans: Plan[] = [];
  let left = bytes;
  const add = (name: string, dtype: string, elementBytes: number, shape: number[]) => {
    const byteLength = shape.reduce((product, size) => product * size, elementBytes);
    plans.push({ name: `model.layers.${shard}.${name}`, dtype, shape, byteLength });
    left -= byteLength;
  };
  if (left >= 4 * WIDTH) add("norm.weight", "F32", 4, [WIDTH]);
  for (let matrix = 0; left >= 2 * WIDTH; matrix++) {
    const rows = Math.floor(Math.min(left, TENSOR_BYTES) / (2 * WIDTH));
    add(`mlp.${matrix}.weight`, "BF16", 2, [rows, WIDTH]);
  }
  add("rest", "U8", 1, [left]);
  return plans;
}

/** The header: the length of the JSON, and the JSON with spaces that align the data to 8 bytes. */
function encodeHeader(plans: readonly Plan[]): Uint8Array<ArrayBuffer> {
  let end = 0;
  const entries = plans.map(({ name, dtype, shape, byteLength }) => {
    const begin = end;
    end += byteLength;
    return [name, { dtype, shape, data_offsets: [begin, end] }];
  });
  const text = JSON.stringify(Object.fromEntries([["__metadata__", { format: "pt" }], ...entries]));
  const json = text.padEnd(Math.ceil(text.length / 8) * 8); // ASCII: as many bytes as characters
  const header = new Uint8Array(8 + json.length);
  new DataView(header.buffer).setBigUint64(0, BigInt(json.length), true);
  new TextEncoder().encodeInto(json, header.subarray(8));
  return header;
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.byteLength;) done += await file.write(bytes.subarray(done));
}

/** A generator of bytes that do not repeat. It is faster than storage, and gives the same bytes in every run. */
class RandomBytes {
  readonly #words = new Uint32Array(TENSOR_BYTES / 4);
  #state = 1;

  /** The next bytes; they are valid until the next call. */
  next(byteLength: number): Uint8Array<ArrayBuffer> {
    const words = this.#words;
    const count = Math.ceil(byteLength / 4);
    let state = this.#state;
    for (let index = 0; index < count; index++) {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
      words[index] = state;
    }
    this.#state = state;
    return new Uint8Array(words.buffer, 0, byteLength);
  }
}
