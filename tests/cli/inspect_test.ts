import { assertEquals } from "@std/assert";
import { tempFolder, writeFile, writeShards } from "../support/models.ts";
import { runCli } from "./support.ts";

Deno.test("inspect --list lists tensors and metadata", async () => {
  await using folder = await tempFolder();
  const path = `${folder.path}/x.safetensors`;
  await writeFile(path, [
    { name: "wide", dtype: "BF16", shape: [300, 2] },
    { name: "steers\x1b[2J", dtype: "I64", shape: [] },
  ], { metadata: { format: "pt" } });
  const { code, stdout, stderr } = await runCli("inspect", path, "--list");
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

Deno.test("inspect aligns names with wide characters", async () => {
  await using folder = await tempFolder();
  const path = `${folder.path}/x.safetensors`;
  await writeFile(path, [
    { name: "層.重み", dtype: "F32", shape: [2] },
    { name: "layer", dtype: "U8", shape: [1] },
  ]);
  const { stdout } = await runCli("inspect", path, "--list");
  assertEquals(stdout.split("\n").slice(1, 4), [
    "  tensor   dtype  shape    bytes",
    "  層.重み  F32    [2]    8 bytes",
    "  layer    U8     [1]     1 byte",
  ]);
});

/** Three layers, two of them equal, and a head: 3 × 2 + 1 tensors in two files. */
async function writeLayers(folder: string): Promise<string[]> {
  const layer = (n: number, rows: number) => [
    { name: `model.layers.${n}.attn.q.weight`, dtype: "BF16", shape: [rows, 8] } as const,
    { name: `model.layers.${n}.norm`, dtype: "F32", shape: [8] } as const,
  ];
  const head = { name: "head\u202e.weight", dtype: "BF16", shape: [2, 8] } as const;
  const metadata = { format: "pt", long: "x".repeat(300) };
  const shards = [[...layer(10, 4), head], [...layer(9, 4), ...layer(2, 6)]];
  return (await writeShards(folder, shards, { metadata })).paths as string[];
}

Deno.test("inspect draws a tree with equal branches once, and totals by branch and dtype", async () => {
  await using folder = await tempFolder();
  const paths = await writeLayers(folder.path);
  const { code, stdout, stderr } = await runCli("inspect", folder.path);
  assertEquals([code, stderr], [0, ""]);
  assertEquals(stdout.split("\n"), [
    `Metadata of ${paths[0]} and 1 other`,
    "  format: pt",
    `  long: ${"x".repeat(200)}… (300 characters)`,
    "",
    "head\\u202e.weight    BF16  [2, 8]             32 bytes",
    "model.layers               6 tensors         320 bytes",
    "├─ 2                       2 tensors         128 bytes",
    "│  ├─ attn.q.weight  BF16  [6, 8]             96 bytes",
    "│  └─ norm           F32   [8]                32 bytes",
    "└─ 9–10                    2 × 2 tensors  2 × 96 bytes",
    "   ├─ attn.q.weight  BF16  [4, 8]             64 bytes",
    "   └─ norm           F32   [8]                32 bytes",
    "",
    "BF16  4 tensors  256 bytes",
    "F32   3 tensors   96 bytes",
    "",
    "7 tensors of 352 bytes in 2 files",
    "",
  ]);
});

Deno.test("inspect --depth and --names show less", async () => {
  await using folder = await tempFolder();
  const [first] = await writeLayers(folder.path);
  const { stdout } = await runCli("inspect", first!, "--depth", "1", "--names", "model.*");
  assertEquals(stdout.split("\n").slice(4), [
    "model.layers.10    2 tensors  96 bytes",
    "",
    "BF16  1 tensor  64 bytes",
    "F32   1 tensor  32 bytes",
    "",
    "2 tensors of 96 bytes in 1 file",
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
    dtypes: { C64: { tensors: 1, bytes: 8 }, F4: { tensors: 1, bytes: 4 } },
    notes: [],
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
