import { assertEquals } from "@std/assert";
import { tempFolder, writeFile, writeShards } from "../support/models.ts";
import { runCli } from "./support.ts";

Deno.test("inspect lists tensors and metadata", async () => {
  await using folder = await tempFolder();
  const path = `${folder.path}/x.safetensors`;
  await writeFile(path, [
    { name: "wide", dtype: "BF16", shape: [300, 2] },
    { name: "steers\x1b[2J", dtype: "I64", shape: [] },
  ], { metadata: { format: "pt" } });
  const { code, stdout, stderr } = await runCli("inspect", path);
  assertEquals([code, stderr], [0, ""]);
  assertEquals(stdout.split("\n"), [
    path,
    "  metadata",
    "    format: pt",
    "  tensor           dtype  shape       bytes",
    "  wide             BF16   [300, 2]  1.20 kB",
    "  steers\\u001b[2J  I64    []        8 bytes",
    "",
    "2 tensors of 1.21 kB in 1 file",
    "",
  ]);
});

Deno.test("inspect --json lists files with their tensors", async () => {
  await using folder = await tempFolder();
  const { paths } = await writeShards(folder.path, [
    [{ name: "a", dtype: "F4", shape: [2, 4] }, { name: "b", dtype: "U8", shape: [0] }],
    [{ name: "c", dtype: "C64", shape: [] }],
  ], { metadata: { format: "pt" } });
  const { code, stdout } = await runCli("inspect", folder.path, "--json", "--names", "a", "--names", "c");
  assertEquals(code, 0);
  const metadata = { format: "pt" };
  assertEquals(JSON.parse(stdout), {
    files: [
      { path: paths[0], metadata, tensors: [{ name: "a", dtype: "F4", shape: [2, 4], bytes: 4 }] },
      { path: paths[1], metadata, tensors: [{ name: "c", dtype: "C64", shape: [], bytes: 8 }] },
    ],
    tensors: 2,
    bytes: 12,
  });
});

Deno.test("inspect reads headers only", async () => {
  await using folder = await tempFolder();
  const path = `${folder.path}/sparse.safetensors`;
  const header = new TextEncoder().encode(
    `{"x":{"dtype":"U8","shape":[${2 ** 38}],"data_offsets":[0,${2 ** 38}]}} `,
  );
  const bytes = new Uint8Array(8 + header.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
  bytes.set(header, 8);
  await Deno.writeFile(path, bytes);
  await Deno.truncate(path, bytes.length + 2 ** 38);
  const { code, stdout } = await runCli("inspect", path, "--json");
  assertEquals([code, JSON.parse(stdout).bytes], [0, 2 ** 38]);
});
