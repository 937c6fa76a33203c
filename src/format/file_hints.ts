/** What a file is that calls itself safetensors and is not: the common mistakes, by their first bytes. */

/** A safetensors file begins with a small little-endian number: its bytes 4 to 7 are 0, or the header is too large. */
const SMALL_LENGTH = /^[^]{4}\0{4}/;

/** Beginnings of files (bytes as characters), and what to tell the user. */
const KINDS: readonly (readonly [start: RegExp | string, advice: string])[] = [
  ["version https://git-lfs", "it is a git-lfs pointer, not the file itself: run `git lfs pull`"],
  [/^\s*<(!doctype|!--|html|\?xml)/i, "it is a web page, not the file itself: download the file again"],
  [/^\s*[{[]\s*["{]/, "it is JSON, perhaps a shard index or the error message of a download"],
  ["PK\x03\x04", "it is a zip archive, as PyTorch checkpoints (.bin, .pt) are: open it with openPyTorch"],
  ["\x80", "it is perhaps a Python pickle, as old PyTorch checkpoints are: open it with openPyTorch"],
  ["GGUF", "it is a GGUF model, another format"],
  ["\x89HDF", "it is an HDF5 file, another format"],
  ["\x93NUMPY", "it is a NumPy array, another format"],
  ["\x1f\x8b", "it is compressed with gzip: unpack it first"],
];

/** What the file with these first bytes really is, for the end of a message; empty where they do not tell. */
export function fileHint(first: Uint8Array): string {
  const text = String.fromCharCode(...first.subarray(0, 64));
  if (SMALL_LENGTH.test(text)) return "";
  const kind = KINDS.find(([start]) => typeof start === "string" ? text.startsWith(start) : start.test(text));
  return kind?.[1] ?? "";
}
