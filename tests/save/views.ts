/**
 * Typed arrays of another dtype, and unknown options, are rejected before any write.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { saveFile, type SaveOptions, serialize } from "../../mod.ts";
import type { DType } from "../../src/base/dtype.ts";
import type { DefineTest } from "../load/context.ts";
import { namesIn } from "./support.ts";

/** The bits of an element, and its typed arrays besides bytes; errors name the first one. */
const DTYPES: Readonly<Record<DType, readonly [bits: number, ...arrays: string[]]>> = {
  BOOL: [8, "Uint8Array"],
  F4: [4, "Uint8Array"],
  F6_E2M3: [6, "Uint8Array"],
  F6_E3M2: [6, "Uint8Array"],
  U8: [8, "Uint8Array"],
  I8: [8, "Int8Array"],
  F8_E5M2: [8, "Uint8Array"],
  F8_E4M3: [8, "Uint8Array"],
  F8_E8M0: [8, "Uint8Array"],
  F8_E4M3FNUZ: [8, "Uint8Array"],
  F8_E5M2FNUZ: [8, "Uint8Array"],
  I16: [16, "Int16Array"],
  U16: [16, "Uint16Array"],
  F16: [16, "Float16Array", "Uint16Array"],
  BF16: [16, "Uint16Array"],
  I32: [32, "Int32Array"],
  U32: [32, "Uint32Array"],
  F32: [32, "Float32Array"],
  C64: [64, "Float32Array"],
  F64: [64, "Float64Array"],
  I64: [64, "BigInt64Array"],
  U64: [64, "BigUint64Array"],
};

/** Views of bytes, valid for every dtype. */
const BYTES = ["Uint8Array", "Uint8ClampedArray", "DataView"];

/** A view of 48 bytes of each kind: whole elements of every dtype. */
const VIEWS: readonly ArrayBufferView[] = [
  ...[
    Uint8Array,
    Uint8ClampedArray,
    Int8Array,
    Int16Array,
    Uint16Array,
    Float16Array,
    Int32Array,
    Uint32Array,
  ],
  ...[Float32Array, Float64Array, BigInt64Array, BigUint64Array, DataView],
].map((View) => new (View as new (buffer: ArrayBuffer) => ArrayBufferView)(new ArrayBuffer(48)));

export function viewTests(test: DefineTest): void {
  test("a typed array of another dtype is rejected, in every kind of input", async (folder) => {
    for (const [name, [bits, ...arrays]] of Object.entries(DTYPES)) {
      for (const data of VIEWS) {
        const dtype = name as DType, shape = [48 * 8 / bits], given = data.constructor.name;
        const shapes = [{ name: "x", dtype, shape }],
          path = `${folder}/x`,
          options = { overwrite: true, sync: false };
        // The types reject the wrong ones too.
        const tensor = { dtype, shape, data: data as Uint8Array };
        const stream = async function* () {
          yield await Promise.resolve(["x", tensor] as const);
        };
        const copyToHost = () => Promise.resolve({ data });
        const calls = [
          () => Promise.try(() => serialize({ x: tensor })),
          () => saveFile({ x: tensor }, path, options),
          () => saveFile(stream(), path, { ...options, shapes }),
          () => saveFile({ x: { dtype, shape, copyToHost } }, path, options),
        ];
        for (const call of calls) {
          if (arrays.includes(given) || BYTES.includes(given)) {
            await call();
            continue;
          }
          const { message } = await assertRejects(call as () => Promise<unknown>, TypeError);
          assert(message.startsWith(`Cannot write tensor "x": ${dtype} wants a ${arrays[0]}`), message);
          assert(message.endsWith(`, got a ${given}`), message);
        }
      }
    }
    assertEquals(namesIn(folder), ["x"]);
  });

  test("parts that are not bytes are rejected", async (folder) => {
    const parts = async function* () {
      yield await Promise.resolve(new Float32Array(1) as unknown as Uint8Array<ArrayBuffer>);
    };
    await assertRejects(
      () => saveFile({ x: { dtype: "F32", shape: [1], parts } }, `${folder}/x`),
      TypeError,
      'Cannot write tensor "x": parts must be Uint8Arrays, got a Float32Array',
    );
    assertEquals(namesIn(folder), []);
  });

  test("saveFile() rejects unknown options, and values of the wrong kind", async (folder) => {
    const wrong: [object, string][] = [
      [{ overwite: true }, 'saveFile() has no option "overwite"'],
      [{ format: "pt" }, 'saveFile() has no option "format"'],
      [{ overwrite: "yes" }, 'overwrite must be true or false, got "yes"'],
      [{ sync: 1 }, "sync must be true or false, got 1"],
      [
        { maxShardBytes: "5gb" },
        'maxShardBytes must be a number of bytes, or text such as "5GB" or "512MiB", got "5gb"',
      ],
      [
        { maxShardBytes: 5n },
        'maxShardBytes must be a number of bytes, or text such as "5GB" or "512MiB", got 5n',
      ],
      [{ maxThreads: 2n }, "maxThreads must be a number, got 2n"],
      [{ signal: new AbortController() }, "signal must be an AbortSignal, got an AbortController"],
      [{ onProgress: {} }, "onProgress must be a function, got an object"],
      [{ shapes: 3 }, "shapes must be a list of { name, dtype, shape }, got 3"],
      [{ dtype: "float16" }, 'Cannot cast to "float16": did you mean "F16"?'],
    ];
    for (const [options, text] of wrong) {
      await assertRejects(() => saveFile({}, `${folder}/x`, options as SaveOptions), TypeError, text);
    }
    assertEquals(namesIn(folder), []);
  });
}
