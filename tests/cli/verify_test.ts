import { assertEquals, assertStringIncludes } from "@std/assert";
import { tempFolder, writeFile, writeShards } from "../support/models.ts";
import { suite } from "../support/skip.ts";
import { runCli } from "./support.ts";

const REFERENCE = new URL("../data/reference/", import.meta.url).pathname;
const REAL = new URL("../../../shared/data/real/", import.meta.url).pathname;

Deno.test("verify compares with the checksums of the reference implementation's tensors", async () => {
  const { code, stdout, stderr } = await runCli(
    "verify",
    `${REFERENCE}all_dtypes.safetensors`,
    "--checksums",
    `${REFERENCE}all_dtypes.expected.json`,
  );
  assertEquals([code, stderr], [0, ""]);
  assertStringIncludes(stdout, "Checksums: 85 agree, 0 do not\n");
});

Deno.test("verify reports its checks, also without checksums", async () => {
  await using folder = await tempFolder();
  await writeShards(folder.path, [
    [{ name: "a", dtype: "F32", shape: [250] }],
    [{ name: "b", dtype: "F32", shape: [0] }],
  ]);
  const { code, stdout } = await runCli("verify", folder.path);
  assertEquals(code, 0);
  assertEquals(stdout.split("\n"), [
    "Headers:   2 files, each described by its header to the last byte",
    "Index:     every tensor is in the file that the index names",
    "Tensors:   2 tensors of 1.00 kB, every byte was read",
    "Checksums: none to compare with (--checksums FILE, --sha256 FILE)",
    "",
  ]);
});

Deno.test("verify --json prints checksums that --checksums reads, and finds later changes", async () => {
  await using folder = await tempFolder();
  const path = `${folder.path}/x.safetensors`, sums = `${folder.path}/sums.json`;
  await writeFile(path, [
    { name: "checksums", dtype: "U8", shape: [3], bytes: new TextEncoder().encode("abc") },
    { name: "empty", dtype: "F32", shape: [0] },
  ]);
  const first = await runCli("verify", path, "--json");
  assertEquals(first.code, 0);
  assertEquals(JSON.parse(first.stdout), {
    ok: true,
    files: 1,
    index: false,
    misplaced: [],
    tensors: 2,
    bytes: 3,
    compared: 0,
    mismatches: [],
    notes: [],
    checksums: {
      checksums: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", // FIPS 180-2, "abc"
      empty: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    },
  });
  await Deno.writeTextFile(sums, first.stdout);
  const second = await runCli("verify", path, "--checksums", sums);
  assertEquals(second.code, 0);
  assertStringIncludes(second.stdout, "Checksums: 2 agree, 0 do not\n");

  await writeFile(path, [
    { name: "checksums", dtype: "U8", shape: [3], bytes: new TextEncoder().encode("abd") },
    { name: "new", dtype: "F32", shape: [0] },
  ]);
  const third = await runCli("verify", path, "--checksums", sums);
  assertEquals(third.code, 1);
  assertStringIncludes(third.stderr, "error: Verification failed: 2 of 2 checksums do not agree");
  assertStringIncludes(third.stdout, "Checksums: 0 agree, 2 do not, 1 tensor without a known checksum");
  assertStringIncludes(third.stdout, "no such tensor found");
  const fourth = await runCli("verify", path, "--checksums", sums, "--json");
  const { ok, mismatches } = JSON.parse(fourth.stdout);
  assertEquals([fourth.code, ok, mismatches.length, mismatches[1].actual], [1, false, 2, null]);
});

Deno.test("verify finds a truncated file", async () => {
  await using folder = await tempFolder();
  const { paths, indexPath } = await writeShards(folder.path, [[{ name: "a", dtype: "F32", shape: [1000] }]]);
  await Deno.truncate(paths[0]!, 3000);
  const { code, stderr } = await runCli("verify", indexPath);
  assertEquals(code, 1);
  assertStringIncludes(stderr, paths[0]!);
});

const missing = await Deno.stat(REAL).then(() => null, () => "../shared/data/real is not here");
suite("verify on published models", "real-data", missing, () => {
  Deno.test("verify finds the published Silero VAD as expected", async () => {
    const { code, stdout } = await runCli(
      "verify",
      `${REAL}silero_vad_16k.safetensors`,
      "--checksums",
      `${REAL}silero_vad_16k.expected.json`,
    );
    assertEquals(code, 0);
    assertStringIncludes(stdout, "Checksums: 15 agree, 0 do not\n");
  });
});
