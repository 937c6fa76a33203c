/** Valid safetensors files and mutations of them, from a seed. */
import { type DType, dtypeBits, DTYPES } from "../../src/base/dtype.ts";

/** Numbers from 0 up to 1, the same for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** An integer from 0 to below `limit`. */
export function below(random: () => number, limit: number): number {
  return Math.floor(random() * limit);
}

/** One of `choices`. */
export function pick<T>(random: () => number, choices: readonly T[]): T {
  return choices[below(random, choices.length)]!;
}

const NAMES = [
  "a",
  "b",
  "w.0",
  "layer.1.weight",
  "é",
  "😀",
  "\uffff",
  "",
  "__proto__",
  "\\n",
  "\\u0061",
  "\\ud83d\\ude00",
];

/** Pieces of valid and invalid JSON that a mutation inserts. */
const TOKENS = [
  ...'{}[],:"\\0- \n\0',
  ...[
    "null",
    "true",
    "1",
    "16",
    "1.0",
    "1e0",
    "-0",
    "-1",
    "01",
    "0.5",
    "1e999",
    "1e-999",
    '""',
    '"a"',
    '"x":1,',
  ],
  ...[
    "9007199254740991",
    "9007199254740993",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
  ],
  ...[
    '"dtype":"F32",',
    '"shape":[],',
    '"data_offsets":[0,0],',
    '"__metadata__":{},',
    '"__metadata__":null,',
    '"F4"',
  ],
  ...[
    "\\ud800",
    "\\udc00",
    "\\ud83d\\ude00",
    "\\u0000",
    "\\x",
    "\\u12",
    "\ufeff",
    "\u2028",
    "é",
    "[[[]]]",
    '{"":{}}',
  ],
  ...["[".repeat(130), "[".repeat(124) + "]".repeat(124), '{"a":'.repeat(20) + "1" + "}".repeat(20)],
  ...[
    '"z":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},',
    '"a":{"shape":[],"data_offsets":[0,1],"dtype":"I8"},',
  ],
];

/** A file: the header's JSON and the number of bytes of data. */
export interface Draft {
  json: string;
  dataLength: number;
}

/** A valid file of up to six small tensors, listed in any order, with fields in any order. */
export function validDraft(random: () => number): Draft {
  const members: string[] = [];
  let end = 0;
  const names = NAMES.toSorted(() => random() - 0.5).slice(0, below(random, 7));
  // Some are the same name in two spellings.
  const unique = new Map(names.map((name) => [JSON.parse(`"${name}"`), name])).values();
  for (const name of unique) {
    const dtype: DType = pick(random, DTYPES);
    const shape = Array.from({ length: below(random, 4) }, () => below(random, 4));
    if (dtypeBits(dtype) < 8) shape.push(4);
    const begin = end;
    end += shape.reduce((product, dimension) => product * dimension, dtypeBits(dtype)) / 8;
    const fields = [`"dtype":"${dtype}"`, `"shape":[${shape}]`, `"data_offsets":[${begin},${end}]`];
    if (random() < 0.1) fields.push('"x":[1.5e3,{"y":null}]');
    members.push(`"${name}":{${fields.toSorted(() => random() - 0.5).join(random() < 0.2 ? " , " : ",")}}`);
  }
  if (random() < 0.3) members.unshift('"__metadata__":{"format":"pt","k\\u00e9":"\\ud83d\\ude00"}');
  if (random() < 0.3) members.sort(() => random() - 0.5);
  return { json: `{${members.join(",")}}${" ".repeat(below(random, 8))}`, dataLength: end };
}

/** One change to the JSON's text. */
export function mutate(random: () => number, json: string): string {
  const at = below(random, json.length + 1);
  const length = 1 + below(random, random() < 0.8 ? 3 : 30);
  switch (below(random, 7)) {
    case 0:
      return json.slice(0, at) + json.slice(at + length);
    case 1:
      return json.slice(0, at) + pick(random, TOKENS) + json.slice(at);
    case 2:
      return json.slice(0, at) + pick(random, TOKENS) + json.slice(at + length);
    case 3:
      return replaceNth(random, json, /-?\d+/g, () => pick(random, ["0", "1", "4", "8", "16", ...TOKENS]));
    case 4:
      return replaceNth(random, json, /"[A-Z]\w*"/g, () => `"${pick(random, [...DTYPES, "f32", "C128"])}"`);
    case 5:
      return replaceNth(random, json, /"[^"]*":\{[^}]*\}/g, (member) => `${member},${member}`);
    default:
      return json.slice(0, at) + String.fromCharCode(below(random, 300)) + json.slice(at + 1);
  }
}

function replaceNth(
  random: () => number,
  text: string,
  pattern: RegExp,
  replace: (found: string) => string,
): string {
  const count = text.match(pattern)?.length ?? 0;
  const chosen = below(random, count);
  let i = 0;
  return text.replace(pattern, (found) => i++ === chosen ? replace(found) : found);
}

/** The file of a draft, with `lengthError` added to its length field. */
export function fileOf({ json, dataLength }: Draft, lengthError = 0): Uint8Array {
  const text = new TextEncoder().encode(json);
  const file = new Uint8Array(8 + text.length + dataLength);
  new DataView(file.buffer).setBigUint64(0, BigInt.asUintN(64, BigInt(text.length + lengthError)), true);
  file.set(text, 8);
  return file;
}

/** A file with a few mutations, or none: mostly of its JSON, sometimes of its length field, its bytes or its size. */
export function mutatedFile(random: () => number): Uint8Array {
  const draft = validDraft(random);
  for (let n = below(random, 4); n > 0; n--) draft.json = mutate(random, draft.json);
  if (random() < 0.1) draft.dataLength = Math.max(0, draft.dataLength + below(random, 9) - 4);
  const file = fileOf(draft, random() < 0.05 ? below(random, 9) - 4 : 0);
  for (let n = random() < 0.1 ? 1 + below(random, 3) : 0; n > 0; n--) {
    file[below(random, file.length)] = below(random, 256);
  }
  return random() < 0.05 ? file.slice(0, below(random, file.length)) : file;
}
