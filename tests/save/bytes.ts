/**
 * The bytes of saved files equal the reference's.
 */
import { assertEquals } from "@std/assert";
import { deserialize, fastsafeOpen, saveFile, serialize } from "../../mod.ts";
import type { DType } from "../../src/base/dtype.ts";
import type { DefineTest, EngineName } from "../load/context.ts";
import { readJson } from "../support/floats.ts";
import { assertBytes } from "../support/models.ts";
import { exists, suite } from "../support/skip.ts";
import { ALL_DTYPES, assertFile, pairs, parseFile, referenceFile, written } from "./support.ts";

interface WriterCase {
  readonly name: string;
  readonly tensors: { name: string; dtype: DType; shape: number[] }[];
  readonly metadata: Record<string, string> | null;
  /** The beginning of the file, in base64. */
  readonly header: string;
}

const ALL_DTYPES_FILE = new URL("../data/reference/all_dtypes.safetensors", import.meta.url);

const REAL = new URL("../../../shared/data/real/", import.meta.url);

export function byteTests(test: DefineTest, engine: EngineName): void {
  for (const { name, tensors, metadata, header } of readJson("writer-cases.json") as WriterCase[]) {
    test(`saveFile() writes the reference's bytes: ${name}`, async (folder) => {
      const path = `${folder}/x.safetensors`;
      const data = written(tensors);
      const { bytes } = await saveFile(pairs(data), path, metadata ? { metadata } : {});
      const head = Uint8Array.fromBase64(header);
      const expected = referenceFile(data, metadata ?? undefined);
      assertBytes(expected.subarray(0, head.byteLength), head, "what this test expects");
      await assertFile(path, expected);
      assertEquals(bytes, expected.byteLength);
    });
  }

  test("a load and a save reproduce the reference's file of all dtypes", async (folder) => {
    const reference = await Deno.readFile(ALL_DTYPES_FILE);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(ALL_DTYPES_FILE, { lazy });
      const metadata = model.metadata();
      await saveFile(model, `${folder}/${lazy}.safetensors`, { metadata });
      await assertFile(`${folder}/${lazy}.safetensors`, reference);
    }
    const tensors = deserialize(reference);
    await saveFile(tensors, `${folder}/map.safetensors`, { metadata: { format: "pt" } });
    await assertFile(`${folder}/map.safetensors`, serialize(tensors, { format: "pt" }));
  });

  const missing = exists(REAL.pathname) ? null : "../shared/data/real is not there";
  suite(`published models saved again [${engine}]`, "real-data", missing, () => {
    test("a load and a save of published models produce the reference's bytes", async (folder) => {
      for (const name of ["a", "b", "silero_vad_16k"]) {
        const source = new URL(`${name}.safetensors`, REAL).pathname;
        const { tensors, metadata } = await parseFile(source);
        await using model = await fastsafeOpen(source);
        await saveFile(model, `${folder}/${name}`, metadata ? { metadata } : {});
        const expected = referenceFile([...tensors.values()], metadata);
        await assertFile(`${folder}/${name}`, expected);
        // One of the three was written by another tool, in another order.
        if (name !== "silero_vad_16k") await assertFile(source, expected);
      }
    });
  });

  test("saveFile() writes every dtype, tensors without elements and scalars", async (folder) => {
    const data = written(ALL_DTYPES.flatMap((dtype) => [
      { name: `${dtype}.four`, dtype, shape: [2, 2] },
      { name: `${dtype}.none`, dtype, shape: [4, 0] },
      ...dtype.startsWith("F4") || dtype.startsWith("F6") ? [] : [{ name: `${dtype}.one`, dtype, shape: [] }],
    ]));
    await saveFile(pairs(data.toReversed()), `${folder}/x`);
    await assertFile(`${folder}/x`, referenceFile(data));
  });

  test("saveFile() writes files of sizes around pages, pieces and blocks", async (folder) => {
    const large = 2 ** 20, piece = 8 * 2 ** 20, block = 4 * 2 ** 20;
    const sizes = [
      0,
      1,
      4095,
      4096,
      4097,
      large - 1,
      large,
      large + 1,
      block - 8,
      block + 5,
      piece,
      piece + 4097,
    ];
    for (const [index, size] of sizes.entries()) {
      const data = written([
        { name: "a", dtype: "U8", shape: [size] },
        { name: "b", dtype: "U8", shape: [sizes[(index * 5 + 3) % sizes.length]!] },
        { name: "c", dtype: "U8", shape: [3] },
      ]);
      await saveFile(pairs(data), `${folder}/x`, { overwrite: true, sync: index % 2 === 0 });
      await assertFile(`${folder}/x`, referenceFile(data));
    }
  });

  test("saveFile() writes memory of every alignment", async (folder) => {
    const size = 2 ** 20 + 100;
    const memory = new Uint8Array(size + 4096 + 600);
    crypto.getRandomValues(memory.subarray(0, 65536));
    for (const offset of [0, 1, 8, 496, 4080, 4081]) {
      const bytes = memory.subarray(offset, offset + size);
      await saveFile({ x: { dtype: "U8", shape: [size], data: bytes } }, `${folder}/x`, { overwrite: true });
      await assertFile(
        `${folder}/x`,
        referenceFile([{ name: "x", dtype: "U8", shape: [size], bytes: bytes.slice() }]),
      );
    }
  });

  test("metadata is written in the order of its keys, from records and maps", async (folder) => {
    const tensors = { x: { dtype: "U8", shape: [1], data: new Uint8Array([7]) } } as const;
    const entries = [["b", "2"], ["10", "x"], ["a", "1"], ["9", "y"]] as const;
    const expected =
      '{"__metadata__":{"10":"x","9":"y","a":"1","b":"2"},"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}';
    for (const metadata of [Object.fromEntries(entries), new Map(entries), new Map(entries.toReversed())]) {
      await saveFile(tensors, `${folder}/x`, { metadata, overwrite: true });
      const text = new TextDecoder().decode((await Deno.readFile(`${folder}/x`)).subarray(8, -1));
      assertEquals(text.trimEnd(), expected);
    }
  });
}
