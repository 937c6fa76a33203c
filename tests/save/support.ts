/**
 * Helpers of the save tests: expected files, and files read without the package.
 */
import { assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { fastsafeOpen } from "../../mod.ts";
import type { DType } from "../../src/base/dtype.ts";
import {
  assertBytes,
  fileOf,
  noise,
  tensorLength,
  type TensorSpec,
  type Written,
} from "../support/models.ts";

/** The order of the dtypes in a file that the reference writes. */
const DTYPE_ORDER: readonly DType[] = [
  ...["U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16"] as const,
  ...["F8_E5M2FNUZ", "F8_E4M3FNUZ", "F8_E8M0", "F8_E4M3", "F8_E5M2", "I8", "U8"] as const,
  ...["F6_E3M2", "F6_E2M3", "F4", "BOOL"] as const,
];

/** All dtypes of the format. */
export const ALL_DTYPES: readonly DType[] = DTYPE_ORDER;

/** The bytes of the file that the reference would write: by dtype, then by the UTF-8 bytes of the names. */
export function referenceFile(
  tensors: readonly TensorSpec[],
  metadata?: Readonly<Record<string, string>>,
): Uint8Array<ArrayBuffer> {
  const sorted = tensors.toSorted((a, b) =>
    DTYPE_ORDER.indexOf(a.dtype) - DTYPE_ORDER.indexOf(b.dtype) ||
    Buffer.compare(Buffer.from(a.name), Buffer.from(b.name))
  );
  return fileOf(sorted, metadata ? { metadata } : {}).bytes;
}

/** Tensors of noise. */
export function written(specs: readonly TensorSpec[]): Written[] {
  return specs.map((spec, index) => ({ ...spec, bytes: spec.bytes ?? noise(tensorLength(spec), index + 1) }));
}

/** Tensors in the form of `saveFile`'s input. */
export function pairs(
  tensors: readonly Written[],
): [string, { dtype: DType; shape: readonly number[]; data: Uint8Array<ArrayBuffer> }][] {
  return tensors.map(({ name, dtype, shape, bytes }) => [name, { dtype, shape, data: bytes }]);
}

/** Tensors of 4 bytes each: `maxShardBytes` of 4 writes each into its own shard. */
export function tensors(count: number, seed: number): Written[] {
  return written(Array.from({ length: count }, (_, n) => {
    return { name: `t${n}`, dtype: "U8", shape: [4], bytes: new Uint8Array(4).fill(seed + n) } as const;
  }));
}

/** Fails unless a model opens and has exactly these tensors. */
export async function assertModel(path: string, expected: readonly Written[]): Promise<void> {
  await using model = await fastsafeOpen(path);
  assertEquals(model.keys().sort(), expected.map(({ name }) => name).sort());
  for (const { name, bytes } of expected) assertEquals((await model.getTensor(name)).bytes, bytes);
}

/** A file, read without the package. */
export interface Parsed {
  readonly metadata: Readonly<Record<string, string>> | undefined;
  readonly tensors: ReadonlyMap<string, Written>;
}

/** Reads a file. */
export async function parseFile(path: string): Promise<Parsed> {
  const bytes = await Deno.readFile(path);
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const { __metadata__: metadata, ...entries } = header;
  const tensors = new Map<string, Written>();
  for (const [name, entry] of Object.entries(entries)) {
    const { dtype, shape, data_offsets: [begin, end] } = entry as {
      dtype: DType;
      shape: number[];
      data_offsets: [number, number];
    };
    tensors.set(name, { name, dtype, shape, bytes: bytes.slice(8 + length + begin, 8 + length + end) });
  }
  return { metadata, tensors };
}

/** Fails unless a file, or files together, hold exactly these tensors. */
export async function assertFiles(
  paths: string | readonly string[],
  expected: readonly Written[],
): Promise<void> {
  const found = new Map<string, Written>();
  for (const path of typeof paths === "string" ? [paths] : paths) {
    for (const [name, tensor] of (await parseFile(path)).tensors) found.set(name, tensor);
  }
  assertEquals([...found.keys()].sort(), expected.map(({ name }) => name).sort());
  for (const { name, dtype, shape, bytes } of expected) {
    const tensor = found.get(name)!;
    assertEquals([tensor.dtype, tensor.shape], [dtype, shape]);
    assertBytes(tensor.bytes, bytes, `tensor "${name}"`);
  }
}

/** The names in a folder, sorted. */
export function namesIn(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

/** An expected file. */
export async function assertFile(path: string, expected: Uint8Array): Promise<void> {
  assertBytes(await Deno.readFile(path), expected, path);
}
