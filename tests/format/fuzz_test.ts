import { assert, assertEquals } from "@std/assert";
import { SafeTensorsError } from "../../src/base/errors.ts";
import { dtypeBits, isDType } from "../../src/base/dtype.ts";
import type { Header } from "../../src/format/header.ts";
import { headerLength, parseHeader } from "../../src/format/header_reader.ts";
import { finishNow } from "../../src/base/steps.ts";
import { parseShardIndex } from "../../src/format/shard_index.ts";
import { fileOf, mutate, mutatedFile, seededRandom, validDraft } from "./mutations.ts";

function read(file: Uint8Array): Header {
  const length = headerLength(file.subarray(0, 64), file.length);
  return parseHeader(file.subarray(8, 8 + length), file.length);
}

/** Checks the guarantees of the format with separate arithmetic. */
function checkInvariants(header: Header, file: Uint8Array): void {
  const json = file.subarray(8, header.dataStart);
  assertEquals(BigInt(json.length), new DataView(file.buffer).getBigUint64(0, true));
  assertEquals(header.dataStart + header.dataLength, file.length);
  // An accepted header is also JSON for the platform, with the same number of names.
  const names = Object.keys(
    JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(json)),
  );
  assertEquals(new Set(header.tensors.keys()), new Set(names.filter((name) => name !== "__metadata__")));
  let end = 0;
  for (const [name, info] of header.tensors) {
    assertEquals(info.name, name);
    assert(isDType(info.dtype));
    assertEquals(info.begin, end);
    assert(info.end >= info.begin && Number.isSafeInteger(info.end));
    end = info.end;
    const bits = info.shape.reduce((product, n) => product * BigInt(n), BigInt(dtypeBits(info.dtype)));
    assertEquals(bits, BigInt(info.end - info.begin) * 8n);
  }
  assertEquals(end, header.dataLength);
  for (const [key, value] of header.metadata) assert(key.isWellFormed() && value.isWellFormed());
}

Deno.test("parseHeader() reads every valid file", () => {
  const random = seededRandom(2024);
  for (let i = 0; i < 2000; i++) {
    const file = fileOf(validDraft(random));
    checkInvariants(read(file), file);
  }
});

/** For each seed; together with those of pytorch/fuzz_long_test.ts, 220,000. */
const INPUTS = 40_000;

for (const seed of [1, 2, 3]) {
  Deno.test(`parseHeader() rejects mutated files with a code or reads them correctly (seed ${seed})`, () => {
    const random = seededRandom(seed);
    const outcomes = new Map<string, number>();
    for (let i = 0; i < INPUTS; i++) {
      const file = mutatedFile(random);
      let outcome = "read";
      try {
        checkInvariants(read(file), file);
      } catch (error) {
        if (!(error instanceof SafeTensorsError)) {
          throw new Error(`A file with a foreign outcome: ${file.toBase64()}`, { cause: error });
        }
        outcome = error.code;
      }
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    }
    // The mutations reach every check, not only the JSON syntax.
    for (
      const outcome of [
        ...["read", "HeaderTooSmall", "HeaderTooLarge", "InvalidHeaderLength", "InvalidHeader"],
        ...["InvalidHeaderDeserialization", "InvalidOffset", "MisalignedSlice", "TensorInvalidInfo"],
        ...["ValidationOverflow", "MetadataIncompleteBuffer", "DuplicateName"],
      ]
    ) assert((outcomes.get(outcome) ?? 0) > 0, `No file gave ${outcome}`);
    assert(outcomes.get("read")! > INPUTS / 10);
  });
}

Deno.test("parseShardIndex() rejects mutated indexes with a code or reads files in the folder or below", () => {
  const random = seededRandom(4);
  const index = '{"metadata":{"total_size":16},"weight_map":{"a":"m-1.safetensors","b.é":"m-2.safetensors"}}';
  let taken = 0;
  for (let i = 0; i < 5000; i++) {
    let json = index;
    for (let n = i % 4; n > 0; n--) json = mutate(random, json);
    try {
      for (const file of finishNow(parseShardIndex(new TextEncoder().encode(json))).files) {
        assert(!/\\|(^|\/)\.{0,2}(\/|$)/.test(file), file);
      }
      taken++;
    } catch (error) {
      if (!(error instanceof SafeTensorsError)) {
        throw new Error(`A foreign outcome: ${json}`, { cause: error });
      }
      assertEquals(error.code, "InvalidIndex");
    }
  }
  assert(taken > 1250);
});
