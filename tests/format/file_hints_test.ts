import { assertEquals, assertStringIncludes } from "@std/assert";
import { SafeTensorsError } from "../../src/base/errors.ts";
import { type ContentKind, describeContent } from "../../src/format/file_hints.ts";
import { headerLength } from "../../src/format/header_reader.ts";

/** Characters as bytes. */
function bytes(latin1: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(latin1, (character) => character.charCodeAt(0));
}

/** The bytes of the first entry of a zip archive. */
function zip(name: string): string {
  return `PK\x03\x04\0\0\x08\x08${"\0".repeat(18)}${String.fromCharCode(name.length)}\0\0\0${name}`;
}

const FILES: readonly [content: string, part: string, kind?: ContentKind][] = [
  ["version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"],
  ["version https://git-lfs.github.com/spec/v1\r\noid sha256:0\r\nsize 1\r\n", "git lfs pull"],
  ["\xef\xbb\xbfversion https://git-lfs.github.com/spec/v1\noid", "git lfs pull"],
  ["version https://hawser.github.com/spec/v1\noid", "git lfs pull"],
  ["# xet version 0\nfilesize = 9\nhash = '0'\n", "pointer of git-xet"],
  ["<!DOCTYPE html><html>", "web page"],
  ["\n <html lang=en>", "web page"],
  ["\xef\xbb\xbf<html>", "web page"],
  ['<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "web page or XML"],
  ["Entry not found", '"Entry not found", not the file itself: download'],
  ["Invalid username or password.", "a server's response"],
  ["Access to model meta-llama/Llama-3.2-1B is restricted.", "a server's response"],
  ["HTTP/1.1 404 Not Found\r\n", "a server's response"],
  ['{"error":"Repository not found"}', "a server's response"],
  ["weights of my model\nare elsewhere", 'text that begins with "weights of my model are elsewhere"'],
  ["\xff\xfeh\0e\0l\0l\0o\0 \0y\0o\0u\0", 'text that begins with "hello you"'],
  ["#!/usr/bin/env python3\nprint(1)", "Python program"],
  ["import torch\nprint(torch)", "Python program"],
  ["from torch import nn\n", "Python program"],
  ['{"architectures": ["LlamaForCausalLM"]}', "JSON that begins with"],
  ['{"metadata": {"total_size": 1}}', "shard index", "index"],
  ['{\n  "weight_map": {}\n}', "shard index", "index"],
  [zip("archive/data.pkl"), "PyTorch checkpoint", "pytorch"],
  [zip("arr_0.npy"), "NumPy archive"],
  [zip("metadata.json"), "Keras"],
  ["\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9", "Python pickle", "pytorch"],
  [`./model_weights.ckpt${"\0".repeat(237)}ustar\0`, '"./model_weights.ckpt": unpack it', "tar"],
  [`a.pt${"\0".repeat(253)}ustar  \0`, '"a.pt": unpack it', "tar"],
  ["GGUF\x03\0\0\0\x01\0\0\0", "GGUF"],
  ["tjgg\x03\0\0\0\x01\0\0\0", "GGML"],
  ["\x89HDF\r\n\x1a\n", "HDF5"],
  ["\x93NUMPY\x01\0v\0{'descr'", "NumPy array"],
  ["\x1c\0\0\0TFL3\x14\0", "TensorFlow Lite"],
  ["\x08\x07\x12\x07pytorch\x1a\x05", "ONNX"],
  ["\x08\x0a:\xb2\x01\n\x0f\x0a\x01", "ONNX"],
  ["\x81\xa6params\x82\xa5", "MessagePack"],
  ["\xde\0\x10\xa5conv1\x82", "MessagePack"],
  ["\x1f\x8b\x08\x08\x01\x02\x03\x04", "gzip"],
  ["BZh91AY&SY\x01\x02", "bzip2"],
  ["\xfd7zXZ\0\0\x04", "xz"],
  ["\x28\xb5\x2f\xfd\x04\x58\x01\x02", "zstd"],
  ["\x04\x22\x4d\x18\x64\x40\xa7\x01", "lz4"],
  ["7z\xbc\xaf\x27\x1c\0\x04", "7z"],
  ["Rar!\x1a\x07\x01\0", "RAR"],
  ["age-encryption.org/v1\n-> X25519 a", "encrypted with age"],
  ["-----BEGIN AGE ENCRYPTED FILE-----\n", "encrypted"],
  ["-----BEGIN PGP MESSAGE-----\n\nhQ", "PGP"],
  ["\x85\x01\x0c\x03\x11\x22\x33\x44\x55", "encrypted with PGP"],
  ["\x8c\x0d\x04\x09\x03\x02\x11\x22\x33", "encrypted with PGP"],
  ["Salted__\x01\x02\x03\x04\x05\x06\x07\x08", "OpenSSL"],
  ["\0\x05\x16\x07\0\x02\0\0Mac OS X        ", "AppleDouble"],
  ["\x89PNG\r\n\x1a\n\0\0\0\x0d", "picture"],
];

Deno.test("describeContent() recognises other formats, archives, texts and pointers", () => {
  for (const [content, part, kind = "other"] of FILES) {
    const found = describeContent(bytes(content));
    assertStringIncludes(found?.text ?? "nothing", part);
    assertEquals(found?.kind, kind, content);
  }
});

Deno.test("describeContent() recognises a safetensors file", () => {
  for (const start of ["\x08\0\0\0\0\0\0\0{}      ", "\x40\x01\0\0\0\0\0\0 {"]) {
    assertEquals(describeContent(bytes(start))?.kind, "safetensors");
  }
});

Deno.test("describeContent() returns undefined for unknown bytes", () => {
  // The last ones begin with the length of a safetensors header, and also look like other formats.
  const lengths = ["\x08\x07\x12\0\0\0\0\0", "\x1f\x8b\x08\0\0\0\0\0", "\x80\x02\0\0\0\0\0\0\x01"];
  for (const content of ["", "\0".repeat(4096), "\x00\x01\x02\x03\xff\xfe\xfd\xfc\xfb", " \n", ...lengths]) {
    assertEquals(describeContent(bytes(content)), undefined);
  }
});

Deno.test("headerLength() names the real format of a file that is not safetensors, without numbers", () => {
  for (const [content, part, kind] of FILES) {
    const first = bytes(content);
    let error: unknown;
    try {
      headerLength(first, first.length, { path: "m" });
    } catch (caught) {
      error = caught;
    }
    if (!(error instanceof SafeTensorsError)) throw new Error(`no refusal of ${content}`);
    assertStringIncludes(error.message, part);
    assertEquals([error.code, error.path], ["HeaderTooLarge", "m"]);
    assertEquals(/\d{9}/.test(error.message), false, error.message);
    const pytorch = kind === "pytorch";
    assertEquals([error.format, error.message.includes("openPyTorch")], [
      pytorch ? "pytorch" : undefined,
      pytorch,
    ]);
  }
});
