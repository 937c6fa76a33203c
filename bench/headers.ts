/**
 * Headers for benchmarks of opening: of large models, of a million tensors, and of hostile files.
 */

/** A file: its header, and the number of data bytes. */
export interface HeaderFile {
  /** Length, JSON and padding. */
  readonly head: Uint8Array<ArrayBuffer>;
  /** Bytes of data that the header describes. */
  readonly dataLength: number;
}

/** Shards and tensors of the largest published models. */
export const SHARDS = 163, TENSORS = 91_991;

/** A mixture of experts in F8 with scales: 163 shards with 91,991 tensors of 650 GB. */
export function* expertShards(): Generator<HeaderFile> {
  const PARTS = ["gate_proj", "up_proj", "down_proj"];
  for (let shard = 0; shard < SHARDS; shard++) {
    const members: string[] = [`"__metadata__":{"format":"pt"}`];
    const first = Math.floor(TENSORS * shard / SHARDS), stop = Math.floor(TENSORS * (shard + 1) / SHARDS);
    let end = 0;
    for (let index = first; index < stop; index++) {
      const isScale = index % 2 === 1;
      const matrix = index >> 1;
      const layer = Math.floor(matrix / 768), expert = Math.floor(matrix / 3) % 256;
      const name = `model.layers.${layer}.mlp.experts.${expert}.${PARTS[matrix % 3]}.weight${
        isScale ? "_scale_inv" : ""
      }`;
      const begin = end;
      end += isScale ? 16 * 56 * 4 : 2048 * 7168;
      const type = isScale ? `"dtype":"F32","shape":[16,56]` : `"dtype":"F8_E4M3","shape":[2048,7168]`;
      members.push(`"${name}":{${type},"data_offsets":[${begin},${end}]}`);
    }
    yield { head: encode(`{${members.join(",")}}`), dataLength: end };
  }
}

/** One header with a million tensors of one byte. */
export function millionTensors(): HeaderFile {
  const count = 1_000_000;
  const members = Array.from({ length: count }, (_, index) => {
    return `"t${index}":{"dtype":"U8","shape":[1],"data_offsets":[${index},${index + 1}]}`;
  });
  return { head: encode(`{${members.join(",")}}`), dataLength: count };
}

/** One header with so many BF16 tensors of so many bytes in total, all of one size except the last. */
export function evenTensors(count: number, dataLength: number): HeaderFile {
  const size = 2 * Math.floor(dataLength / count / 2);
  const members = Array.from({ length: count }, (_, index) => {
    const begin = index * size, end = index === count - 1 ? dataLength : begin + size;
    return `"t${index}":{"dtype":"BF16","shape":[${(end - begin) / 2}],"data_offsets":[${begin},${end}]}`;
  });
  return { head: encode(`{${members.join(",")}}`), dataLength };
}

/** Headers just below the format's limit of 100 MB, designed to cost time or memory. */
export const HOSTILE: Readonly<Record<string, () => HeaderFile>> = {
  "spaces": () => hostile("{", "}", " "),
  "open brackets": () => hostile(`{"x":`, "", "["),
  "open braces": () => hostile("", "", `{"a":`),
  "a long name": () => hostile(`{"`, `":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, "x"),
  "a name of escapes": () =>
    hostile(`{"`, `":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, "\\ud83d\\ude00"),
  "a long shape": () => hostile(`{"x":{"dtype":"U8","shape":[1`, `],"data_offsets":[0,1]}}`, ",1", 1),
  "long numbers": () => hostile(`{"x":{"dtype":"U8","shape":[1`, `],"data_offsets":[0,1]}}`, "0"),
  "empty tensors": () => {
    let index = 0;
    return hostile(
      "{",
      lastMember,
      () => `"${(index++).toString(36)}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},`,
    );
  },
  "the same name again and again": () => {
    return hostile("{", lastMember, `"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},`);
  },
  "metadata entries": () => {
    let index = 0;
    return hostile(`{"__metadata__":{`, `"z":""}}`, () => `"${(index++).toString(36)}":"",`);
  },
  "a long metadata value": () => hostile(`{"__metadata__":{"a":"`, `"}}`, "x"),
};

const lastMember = `"last":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`;

const HOSTILE_BYTES = 99_000_000;

/** `start`, then as many `filler`s as possible, then `end`. */
function hostile(start: string, end: string, filler: string | (() => string), dataLength = 0): HeaderFile {
  const available = HOSTILE_BYTES - start.length - end.length;
  let middle: string;
  if (typeof filler === "string") {
    middle = filler.repeat(Math.floor(available / filler.length));
  } else {
    const parts: string[] = [];
    for (let length = 0, part = filler(); length + part.length <= available; part = filler()) {
      parts.push(part);
      length += part.length;
    }
    middle = parts.join("");
  }
  return { head: encode(start + middle + end), dataLength };
}

/** Length and JSON, padded so that the data is aligned. The JSON is ASCII. */
function encode(json: string): Uint8Array<ArrayBuffer> {
  const length = Math.ceil(json.length / 8) * 8;
  const head = new Uint8Array(8 + length).fill(0x20, 8);
  new DataView(head.buffer).setBigUint64(0, BigInt(length), true);
  new TextEncoder().encodeInto(json, head.subarray(8));
  return head;
}

/** Writes a sparse file of the right size: its data uses no disk space. */
export async function writeSparse(path: string, { head, dataLength }: HeaderFile): Promise<void> {
  await Deno.writeFile(path, head);
  await Deno.truncate(path, head.byteLength + dataLength);
}
