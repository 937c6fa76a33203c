/**
 * Opening: reading and checking headers, beside `JSON.parse` of the same bytes.
 */
import { fastsafeOpen, readHeader } from "../mod.ts";
import { expertShards, millionTensors, writeSparse } from "./headers.ts";
import { tempFolder } from "./temp_folder.ts";

const folder = tempFolder();
const heads: Uint8Array[] = [];
for (const shard of expertShards()) {
  const number = String(heads.length + 1).padStart(5, "0");
  await writeSparse(`${folder}/model-${number}-of-00163.safetensors`, shard);
  heads.push(shard.head);
}
await Deno.mkdir(`${folder}/million`);
const million = `${folder}/million/million.safetensors`;
await writeSparse(million, millionTensors());

Deno.bench({
  name: "JSON.parse of 163 headers, 91,991 tensors",
  group: "shards",
  baseline: true,
  n: 10,
  warmup: 3,
  fn() {
    const decoder = new TextDecoder();
    for (const head of heads) JSON.parse(decoder.decode(head.subarray(8)));
  },
});

Deno.bench({
  name: "fastsafeOpen of 163 files, 91,991 tensors",
  group: "shards",
  n: 10,
  warmup: 3,
  async fn() {
    await using _model = await fastsafeOpen(folder, { lazy: true });
  },
});

Deno.bench({
  name: "readHeader of one file, 1,000,000 tensors",
  n: 3,
  warmup: 1,
  async fn() {
    await readHeader(million);
  },
});
