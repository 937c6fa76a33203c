// Signatures of files contain control characters.
// deno-lint-ignore-file no-control-regex
/**
 * Recognises the real format of a file that cannot be read in the expected format, by its first bytes.
 *
 * The readers of safetensors headers, of shard indexes and of PyTorch checkpoints call this before they report any
 * other error: in a failed download or a file of another format, all numbers are meaningless.
 */
import { quote } from "../base/text.ts";

/**
 * The recognised format. Another function of this library opens "safetensors", "pytorch" and "index"; "tar" may contain
 * a checkpoint; the library cannot use "other".
 */
export type ContentKind = "safetensors" | "pytorch" | "index" | "tar" | "other";

/** The recognised content of a file. */
export interface Content {
  /** Its format. */
  readonly kind: ContentKind;
  /** Text for a message: `it is …`, with advice, except for the kinds that another function opens. */
  readonly text: string;
}

/** Bytes at the start of a file that identify its format: the signature of a tar archive ends at 262. */
export const TELLING_BYTES = 512;

/**
 * Recognises a file by its first bytes.
 *
 * @param head the first {@linkcode TELLING_BYTES} of the file, or more; all bytes of a shorter file
 * @returns undefined for unknown bytes
 */
export function describeContent(head: Uint8Array): Content | undefined {
  const bytes = head.subarray(0, TELLING_BYTES);
  const latin1 = String.fromCharCode(...bytes);
  if (HEADER_LENGTH.test(latin1)) {
    return /^[^]{8}[ \t\r\n]*\{/.test(latin1)
      ? { kind: "safetensors", text: "it is a safetensors file" }
      : undefined;
  }
  for (const [start, text] of KINDS) {
    if (typeof start === "string" ? latin1.startsWith(start) : start.test(latin1)) return other(text);
  }
  if (latin1.startsWith("PK\x03\x04")) return zipArchive(latin1);
  if (latin1.startsWith("ustar", 257)) {
    const name = latin1.slice(0, 100).replace(/\0[^]*$/, "");
    return { kind: "tar", text: `it is a tar archive, which holds ${quote(name)}: unpack it first` };
  }
  if (/^\x80[\x02-\x05]/.test(latin1)) {
    return { kind: "pytorch", text: "it is a Python pickle, as old PyTorch checkpoints are" };
  }
  return textFile(bytes);
}

/** The length of a safetensors header, which is at most 100,000,000: its four highest bytes are zero. */
const HEADER_LENGTH = /^[^]{3}[\0-\x05]\0{4}/;

/** Signatures of binary files (bytes as characters), with the format and advice. */
const KINDS: readonly (readonly [start: RegExp | string, text: string])[] = [
  ["GGUF", "it is a GGUF model, another format"],
  [/^(lmgg|fmgg|tjgg|algg)/, "it is a GGML model, another format"],
  ["\x89HDF\r\n", "it is an HDF5 file, as Keras models are: another format"],
  ["\x93NUMPY", "it is a NumPy array (.npy), another format"],
  [/^[^]{4}TFL3/, "it is a TensorFlow Lite model, another format"],
  [/^\x08[\x01-\x14][\x12\x1a\x22\x2a\x3a\x42]/, "it is perhaps an ONNX model, another format"],
  // A map with a text as its first key.
  [
    /^(?:[\x81-\x8f]|\xde[^]{2}|\xdf[^]{4})(?:[\xa1-\xbf]|\xd9[^])[\x20-\x7e]/,
    "it is MessagePack data, as Flax models are: another format",
  ],
  [/^(PAR1|ARROW1)/, "it is a table of Apache Parquet or Arrow, another format"],
  ["SQLite format 3\0", "it is an SQLite database"],
  [
    /^\0\x05\x16[\x00\x07]\0/,
    "it is an AppleDouble file, which macOS writes beside a file, not the file itself",
  ],
  ["\x1f\x8b", "it is compressed with gzip: unpack it first (gunzip)"],
  [/^BZh[1-9](1AY&SY|\x17rE8P\x90)/, "it is compressed with bzip2: unpack it first (bunzip2)"],
  ["\xfd7zXZ\0", "it is compressed with xz: unpack it first (unxz)"],
  ["\x5d\0\0", "it is perhaps compressed with lzma: unpack it first (unlzma)"],
  [/^(\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18)/, "it is compressed with zstd: unpack it first (unzstd)"],
  [/^[\x02\x04]\x22\x4d\x18/, "it is compressed with lz4: unpack it first (unlz4)"],
  ["\x1f\x9d", "it is compressed with compress: unpack it first (uncompress)"],
  ["7z\xbc\xaf\x27\x1c", "it is a 7z archive: unpack it first"],
  ["Rar!\x1a\x07", "it is a RAR archive: unpack it first"],
  [
    /^PK(\x05\x06|\x07\x08)/,
    "it is a zip archive that is empty or in parts: join its parts and unpack it first",
  ],
  ["age-encryption.org/", "it is encrypted with age: decrypt it first"],
  [/^-----BEGIN (PGP|AGE) /, "it is encrypted or signed text (PGP or age): decrypt it first"],
  // Packets of a session key, of version 3 for a public key and 4 for a password.
  [
    /^(\x84[^]|\x85[^]{2}|\xc1[^]{1,2})\x03|^(\x8c|\xc3)[\x0d-\x40]\x04/,
    "it is encrypted with PGP: decrypt it first",
  ],
  ["Salted__", "it is encrypted with OpenSSL: decrypt it first"],
  ["\0GITCRYPT\0", "it is encrypted with git-crypt: run `git-crypt unlock`"],
  [/^(\x7fELF|MZ)/, "it is a program, not a model"],
  ["%PDF-", "it is a PDF document, not a model"],
  [/^(\x89PNG\r\n|\xff\xd8\xff|GIF8|RIFF[^]{4}WEBP)/, "it is a picture, not a model"],
];

function other(text: string): Content {
  return { kind: "other", text };
}

/** Recognises a zip archive by the name of its first entry. */
function zipArchive(latin1: string): Content {
  const length = latin1.charCodeAt(26) + latin1.charCodeAt(27) * 256;
  const name = latin1.slice(30, 30 + length);
  if (name.endsWith(".npy")) return other("it is a NumPy archive (.npz), another format");
  if (/^(metadata|config)\.json$/.test(name)) return other("it is a Keras model, another format");
  return { kind: "pytorch", text: "it is a zip archive, as PyTorch checkpoints (.bin, .pt) are" };
}

/** Beginnings of texts, with the format and advice. */
const TEXTS: readonly (readonly [start: RegExp, text: string])[] = [
  [/^version https?:\/\/\S+\/spec\/v1/, "it is a git-lfs pointer, not the file itself: run `git lfs pull`"],
  [
    /^# xet version/i,
    "it is a pointer of git-xet, not the file itself: run `git xet checkout`, or download it again",
  ],
  [/^\s*<[!?a-z]/i, "it is a web page or XML, not the file itself: download the file again"],
];

/** Server responses that were saved instead of the file. */
const ANSWERS =
  /^\s*(HTTP\/|entry not found|not found|invalid (user|cred|token)|repository not found|access |unauthori[sz]ed|forbidden|bad (request|gateway)|internal server|too many requests|you are trying|you need to|gated|error\b|\d{3}[: ]|[{[]\s*"(error|message|detail|code|status)")/i;

const PYTHON =
  /^\s*(#!.*python|#.*coding[:=]|import \w|from [\w.]+ import |def \w+\(|class \w+|@\w+|"""|''')/;

function textFile(bytes: Uint8Array): Content | undefined {
  const text = decodeText(bytes);
  if (text === undefined || text.trim() === "") return undefined;
  const known = TEXTS.find(([start]) => start.test(text));
  if (known) return other(known[1]);
  const words = quote(beginningOf(text));
  if (ANSWERS.test(text)) {
    return other(`it is a server's response, ${words}, not the file itself: download the file again`);
  }
  if (PYTHON.test(text)) return other(`it is a Python program that begins with ${words}`);
  if (/^\s*\{\s*"(metadata|weight_map)"/.test(text)) {
    return { kind: "index", text: "it is JSON, a shard index, which must have a name that ends in .json" };
  }
  if (/^\s*(\{|\[\s*[\]{["\d])/.test(text)) return other(`it is JSON that begins with ${words}`);
  return other(`it is text that begins with ${words}`);
}

/** Decodes bytes as UTF-8, or as UTF-16 with a byte order mark; undefined if they are not text. */
function decodeText(bytes: Uint8Array): string | undefined {
  const utf16 = bytes[0] === 0xff && bytes[1] === 0xfe
    ? "utf-16le"
    : bytes[0] === 0xfe && bytes[1] === 0xff
    ? "utf-16be"
    : undefined;
  try {
    // The last character may be incomplete: `stream` accepts it.
    const text = new TextDecoder(utf16 ?? "utf-8", { fatal: true }).decode(bytes, { stream: true });
    return /[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]/.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
}

/** The first words of a text, on one line. */
function beginningOf(text: string): string {
  const line = text.trim().replaceAll(/\s+/g, " ");
  return line.length <= 60 ? line : `${line.slice(0, 60)}…`;
}
