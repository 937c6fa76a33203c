/**
 * Safetensors files for tests, written without the package's writer, and the expected bytes of their tensors.
 */
import { assertEquals } from "@std/assert";
import type { DType } from "../../src/base/dtype.ts";

/** Bits of an element, from the format's documentation. */
const BITS: Readonly<Record<DType, number>> = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
};

/** A tensor to write. */
export interface TensorSpec {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Its elements; the default is noise with a seed from name and shape. */
  readonly bytes?: Uint8Array<ArrayBuffer>;
}

/** A written tensor. */
export type Written = Required<TensorSpec>;

/** Options for a file. */
export interface FileOptions {
  readonly metadata?: Readonly<Record<string, string>>;
  /** The start of the data, modulo 8: writers other than the reference do not align it. Default 0. */
  readonly misalignment?: number;
  /** Additional spaces after the header. */
  readonly padding?: number;
}

/** Bytes of a tensor. */
export function tensorLength({ dtype, shape }: Pick<TensorSpec, "dtype" | "shape">): number {
  return shape.reduce((product, size) => product * size, 1) * BITS[dtype] / 8;
}

/** Noise, the same for the same seed. */
export function noise(length: number, seed: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = (seed * 2654435761 + 1) >>> 0 || 1;
  for (let index = 0; index < words.length; index++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[index] = state;
  }
  return new Uint8Array(words.buffer, 0, length);
}

/** Returns the bytes of a file, and its tensors. */
export function fileOf(
  specs: readonly TensorSpec[],
  options: FileOptions = {},
): { bytes: Uint8Array<ArrayBuffer>; tensors: Written[] } {
  const header: [string, unknown][] = options.metadata ? [["__metadata__", options.metadata]] : [];
  const tensors: Written[] = [];
  let end = 0;
  for (const spec of specs) {
    const seed = [...spec.name].reduce((sum, letter) => sum * 31 + letter.codePointAt(0)! >>> 0, 7);
    const bytes = spec.bytes ?? noise(tensorLength(spec), seed);
    tensors.push({ ...spec, bytes });
    const { dtype, shape } = spec;
    header.push([spec.name, { dtype, shape, data_offsets: [end, end += bytes.byteLength] }]);
  }
  // Not an object: it would put names that look like numbers first, and lose "__proto__".
  const json = `{${
    header.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(",")
  }}`;
  let length = new TextEncoder().encode(json).byteLength + (options.padding ?? 0);
  while (length % 8 !== (options.misalignment ?? 0)) length++;
  const bytes = new Uint8Array(8 + length + end).fill(0x20, 8, 8 + length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  new TextEncoder().encodeInto(json, bytes.subarray(8));
  let at = 8 + length;
  for (const tensor of tensors) {
    bytes.set(tensor.bytes, at);
    at += tensor.bytes.byteLength;
  }
  return { bytes, tensors };
}

/** Writes a file; returns its tensors. */
export async function writeFile(
  path: string,
  specs: readonly TensorSpec[],
  options: FileOptions = {},
): Promise<Written[]> {
  const { bytes, tensors } = fileOf(specs, options);
  await Deno.writeFile(path, bytes);
  return tensors;
}

/** Writes a sparse file with one tensor, "x" of U8: its zeros use no disk space. */
export async function writeHole(path: string, byteLength: number): Promise<void> {
  const header = JSON.stringify({ x: { dtype: "U8", shape: [byteLength], data_offsets: [0, byteLength] } });
  await Deno.writeFile(path, new Uint8Array(new BigUint64Array([BigInt(header.length)]).buffer));
  await Deno.writeTextFile(path, header, { append: true });
  await Deno.truncate(path, 8 + header.length + byteLength);
}

/** A sharded model in a folder. */
export interface ShardedModel {
  readonly indexPath: string;
  readonly paths: readonly string[];
  readonly tensors: readonly Written[];
}

/** Writes shards and an index as the Hub's tools name them. */
export async function writeShards(
  folder: string,
  shards: readonly (readonly TensorSpec[])[],
  options: FileOptions = {},
): Promise<ShardedModel> {
  const count = String(shards.length).padStart(5, "0");
  const weightMap: Record<string, string> = {};
  const paths: string[] = [];
  const tensors: Written[] = [];
  for (const [index, specs] of shards.entries()) {
    const name = `model-${String(index + 1).padStart(5, "0")}-of-${count}.safetensors`;
    paths.push(`${folder}/${name}`);
    for (const tensor of await writeFile(`${folder}/${name}`, specs, options)) {
      tensors.push(tensor);
      weightMap[tensor.name] = name;
    }
  }
  const indexPath = `${folder}/model.safetensors.index.json`;
  const total = tensors.reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
  const index = { metadata: { total_size: total }, weight_map: weightMap };
  await Deno.writeTextFile(indexPath, JSON.stringify(index));
  return { indexPath, paths, tensors };
}

/** A folder for one test, removed at its end. */
export interface TempFolder extends AsyncDisposable {
  readonly path: string;
}

/** The parent of the tests' folders; undefined for the system's temporary folder. */
let root: string | undefined;

/** Changes the parent of the folders of this file's tests. */
export function placeFolders(folder: string): void {
  root = folder;
}

/** Creates a folder for one test. */
export async function tempFolder(dir: string | undefined = root): Promise<TempFolder> {
  const path = await Deno.makeTempDir({ prefix: "fastsafetensors-test-", ...dir && { dir } });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

/** Fails unless two byte arrays are equal; reports the first difference. */
export function assertBytes(actual: Uint8Array, expected: Uint8Array, what: string): void {
  assertEquals(
    actual.byteLength,
    expected.byteLength,
    `${what}: ${actual.byteLength} bytes, ${expected.byteLength} expected`,
  );
  let at = 0;
  while (at < expected.byteLength && actual[at] === expected[at]) at++;
  if (at === expected.byteLength) return;
  throw new Error(`${what}: byte ${at} is ${actual[at]}, ${expected[at]} expected`);
}

/** The expected properties of a handle for a written tensor. */
export function assertTensor(
  actual: { name: string; dtype: DType; shape: readonly number[]; byteLength: number; bytes: Uint8Array },
  expected: Written,
): void {
  const { name, dtype, shape, byteLength } = actual;
  assertEquals([name, dtype, [...shape], byteLength], [
    expected.name,
    expected.dtype,
    [...expected.shape],
    expected.bytes.byteLength,
  ]);
  assertBytes(actual.bytes, expected.bytes, `tensor "${name}"`);
}
