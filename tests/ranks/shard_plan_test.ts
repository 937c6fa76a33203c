/**
 * Tensor-parallel models in one call: each rank's parts, against parts that were picked element by element, and what is
 * read for them.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { fastsafeOpen, type ShardPlan } from "../../mod.ts";
import { ParallelLoader } from "../../src/compat/mod.ts";
import { openPyTorch } from "../../src/pytorch/mod.ts";
import { GPT2_SHARDS, LLAMA_SHARDS, MIXTRAL_SHARDS, type ProcessGroup } from "../../src/ranks/mod.ts";
import { decode, encode, isFloat } from "../support/floats.ts";
import {
  assertBytes,
  assertTensor,
  type TensorSpec,
  writeFile,
  writeShards,
  type Written,
} from "../support/models.ts";
import { bytesRead } from "../support/process.ts";
import { partOf, test } from "./support.ts";

/** A group as far as a shard plan needs one: whatever else is asked of it is an error. */
function rankOf(rank: number, size: number): ProcessGroup {
  return { rank, size } as ProcessGroup;
}

/** A model, its plan, and for each tensor the dimension that must be cut, by hand. */
interface Case {
  readonly plan: ShardPlan;
  readonly tensors: readonly (readonly [TensorSpec, dimension: number | null])[];
}

const bf16 = (name: string, ...shape: number[]): TensorSpec => ({ name, dtype: "BF16", shape });
const H = 12, KV = 6, FFN = 20, VOCAB = 31;

const attention = (layer: string): Case["tensors"] => [
  [bf16(`${layer}.self_attn.q_proj.weight`, H, H), 0],
  [bf16(`${layer}.self_attn.k_proj.weight`, KV, H), 0],
  [bf16(`${layer}.self_attn.v_proj.weight`, KV, H), 0],
  [bf16(`${layer}.self_attn.q_proj.bias`, H), 0],
  [bf16(`${layer}.self_attn.o_proj.weight`, H, H), 1],
  [bf16(`${layer}.self_attn.o_proj.bias`, H), null],
  [bf16(`${layer}.self_attn.q_norm.weight`, 4), null],
  [bf16(`${layer}.input_layernorm.weight`, H), null],
];

const LLAMA: Case = {
  plan: LLAMA_SHARDS,
  tensors: [
    [bf16("model.embed_tokens.weight", VOCAB, H), 0],
    ...["model.layers.0", "model.layers.1"].flatMap((layer): Case["tensors"] => [
      ...attention(layer),
      [bf16(`${layer}.mlp.gate_proj.weight`, FFN, H), 0],
      [bf16(`${layer}.mlp.up_proj.weight`, FFN, H), 0],
      [bf16(`${layer}.mlp.down_proj.weight`, H, FFN), 1],
    ]),
    [bf16("model.norm.weight", H), null],
    [bf16("lm_head.weight", VOCAB, H), 0],
  ],
};

const MIXTRAL: Case = {
  plan: MIXTRAL_SHARDS,
  tensors: [
    [bf16("model.embed_tokens.weight", VOCAB, H), 0],
    ...attention("model.layers.0"),
    [bf16("model.layers.0.block_sparse_moe.gate.weight", 2, H), null],
    ...[0, 1].flatMap((expert): Case["tensors"] => {
      const prefix = `model.layers.0.block_sparse_moe.experts.${expert}`;
      return [
        [bf16(`${prefix}.w1.weight`, FFN, H), 0],
        [bf16(`${prefix}.w2.weight`, H, FFN), 1],
        [bf16(`${prefix}.w3.weight`, FFN, H), 0],
      ];
    }),
    [bf16("lm_head.weight", VOCAB, H), 0],
  ],
};

for (const [name, { plan, tensors }] of Object.entries({ LLAMA_SHARDS: LLAMA, MIXTRAL_SHARDS: MIXTRAL })) {
  for (const size of [1, 2, 3, 4]) {
    test(`${name} gives each of ${size} ranks its parts`, async (folder) => {
      const half = Math.ceil(tensors.length / 2);
      const specs = tensors.map(([spec]) => spec);
      const { indexPath, tensors: written } = await writeShards(folder, [
        specs.slice(0, half),
        specs.slice(half),
      ]);
      for (let rank = 0; rank < size; rank++) {
        const group = rankOf(rank, size);
        await using model = await fastsafeOpen(indexPath, { group, shardPlan: plan });
        let bytes = 0;
        for (const [index, tensor] of written.entries()) {
          const dimension = tensors[index]![1];
          const expected = dimension === null ? tensor : partOf(tensor, dimension, rank, size);
          assertTensor(await model.getTensor(tensor.name), expected);
          assertEquals(model.info(tensor.name).shape, tensor.shape); // what is in the file
          bytes += expected.bytes.byteLength;
        }
        assertEquals(model.stats().bytes, bytes);
        assertEquals(model.stats().tensors, tensors.length);
      }
    });
  }
}

test("GPT2_SHARDS cuts queries, keys and values each by itself", async (folder) => {
  const path = `${folder}/gpt2.safetensors`;
  const specs: [TensorSpec, number | null][] = [
    [bf16("wte.weight", VOCAB, H), 0],
    [bf16("wpe.weight", 5, H), null],
    [bf16("h.0.ln_1.weight", H), null],
    [{ name: "h.0.attn.bias", dtype: "U8", shape: [1, 1, 5, 5] }, null],
    [bf16("h.0.attn.c_proj.weight", H, H), 0],
    [bf16("h.0.attn.c_proj.bias", H), null],
    [bf16("h.0.mlp.c_fc.weight", H, 4 * H), 1],
    [bf16("h.0.mlp.c_fc.bias", 4 * H), 0],
    [bf16("h.0.mlp.c_proj.weight", 4 * H, H), 0],
    [bf16("h.0.mlp.c_proj.bias", H), null],
  ];
  // Columns of q, k and v: rank 1 of 2 has the second half of each.
  const column = Uint16Array.from({ length: H * 3 * H }, (_, index) => index % (3 * H));
  const weight = { name: "h.0.attn.c_attn.weight", dtype: "U16", shape: [H, 3 * H] } as const;
  const bias = { name: "h.0.attn.c_attn.bias", dtype: "U16", shape: [3 * H] } as const;
  const written = await writeFile(path, [
    ...specs.map(([spec]) => spec),
    { ...weight, bytes: new Uint8Array(column.buffer) },
    { ...bias, bytes: new Uint8Array(column.slice(0, 3 * H).buffer) },
  ]);
  for (const rank of [0, 1]) {
    await using model = await fastsafeOpen(path, { group: rankOf(rank, 2), shardPlan: GPT2_SHARDS });
    for (const [index, [{ name }, dimension]] of specs.entries()) {
      const whole = written[index]!;
      assertTensor(
        await model.getTensor(name),
        dimension === null ? whole : partOf(whole, dimension, rank, 2),
      );
    }
    const half = Array.from({ length: H / 2 }, (_, index) => rank * H / 2 + index);
    const columns = [0, H, 2 * H].flatMap((start) => half.map((one) => start + one));
    assertEquals([...(await model.getTensor(bias.name)).data], columns);
    const rows = await model.getTensor(weight.name);
    assertEquals(rows.shape, [H, 3 * H / 2]);
    assertEquals([...rows.data], Array.from({ length: H }, () => columns).flat());
  }
});

test("a shard plan reads no byte twice, and besides its part only the gaps between short parts of rows", async (folder) => {
  // As wide as real models are: rows of 8 KiB and 4 KiB, of which a rank of two or four has 1 KiB at least.
  const specs: TensorSpec[] = [
    bf16("model.embed_tokens.weight", 512, 2048),
    bf16("model.layers.0.self_attn.q_proj.weight", 2048, 2048),
    bf16("model.layers.0.self_attn.o_proj.weight", 2048, 2048),
    bf16("model.layers.0.mlp.down_proj.weight", 1024, 4096),
    bf16("model.norm.weight", 2048),
  ];
  const { indexPath, tensors } = await writeShards(folder, [specs.slice(0, 2), specs.slice(2)]);
  const rules: (0 | 1 | null)[] = [0, 0, 1, 1, null];
  for (const size of [2, 4]) {
    for (const rank of [0, size - 1]) {
      const sum = (divisors: (rule: 0 | 1 | null) => number) =>
        tensors.reduce((sum, { bytes }, index) => sum + bytes.byteLength / divisors(rules[index]!), 0);
      const share = sum((rule) => rule === null ? 1 : size);
      const most = sum((rule) => rule === 0 ? size : 1);
      const options = { group: rankOf(rank, size), shardPlan: LLAMA_SHARDS };
      const start = bytesRead();
      await using opened = await fastsafeOpen(indexPath, { ...options, lazy: true }); // headers only
      const opening = bytesRead() - start;
      await using model = await fastsafeOpen(indexPath, options);
      await model.whenLoaded();
      const asked = bytesRead() - start - 2 * opening;
      assertEquals([opened.stats().bytes, model.stats().bytes], [0, share]);
      assert(
        asked <= most * 1.01,
        `${asked} bytes were asked for, ${share} are the share, ${most} with gaps`,
      );
    }
  }
});

test("a shard plan goes with casts, lazy models, slices, aliases, streams and checkpoints", async (folder) => {
  const values = Array.from({ length: 24 }, (_, index) => index / 4 - 3);
  const path = `${folder}/x.safetensors`;
  const [x] = await writeFile(path, [
    { name: "x", dtype: "BF16", shape: [4, 6], bytes: encode(values, "BF16") },
    { name: "y", dtype: "I32", shape: [3] },
  ], { metadata: { "x.same": "x", "z": "x" } }) as [Written, Written];
  const group = rankOf(1, 2);
  const part = partOf(x, 1, 1, 2);
  const wide = encode(decode(part.bytes, "BF16"), "F32");
  assert(isFloat(x.dtype));

  for (const lazy of [false, true]) {
    const options = { group, lazy, dtype: "F32", restoreAliases: true } as const;
    await using model = await fastsafeOpen(path, { ...options, shardPlan: { "x*": 1 } });
    const tensor = await model.getTensor("x");
    assertEquals([tensor.dtype, tensor.shape], ["F32", [4, 3]]);
    assertBytes(tensor.bytes, wide, "x");
    assertBytes((await model.getTensor("x", { dtype: "BF16" })).bytes, part.bytes, "x as it is");
    assertBytes((await model.getSlice("x", 1)).bytes, wide.slice(12, 24), "a row of the part");
    assertBytes((await model.getTensor("x.same")).bytes, wide, "the alias is cut in the same way");
    assertEquals((await model.getTensor("z")).shape, [4, 6]); // this one is whole
    await assertRejects(() => model.getSharded("x", 0), TypeError, 'from: "file"');
    assertTensor(
      await model.getSharded("y", 0, { from: "file" }),
      partOf((await readBack(path, "y"))!, 0, 1, 2),
    );
    const seen: string[] = [];
    for await (const [name] of model) seen.push(name);
    assertEquals(seen.toSorted(), ["x", "x.same", "y", "z"]);
    // The eager model has read x's part once for both of its names, and again as it is, which its F32 values could not
    // give for every dtype; z, y, and a part of y from the file.
    if (!lazy) assertEquals(model.stats().bytes, 24 + 24 + 48 + 12 + 4);
  }

  const streamed = new Map<string, Uint8Array>();
  const loader = new ParallelLoader(group, path, { shardPlan: { x: 1 }, maxBytesInFlight: 10 });
  for await (const [name, { bytes }] of loader.iterateWeights()) streamed.set(name, bytes);
  assertBytes(streamed.get("x")!, part.bytes, "x streamed");

  const data = new URL("../data/pytorch/views.pt", import.meta.url).pathname;
  await using whole = await openPyTorch(data);
  await using cut = await openPyTorch(data, {
    group,
    shardPlan: { "*": 0 },
    names: (name) => whole.info(name).shape.length > 0,
  });
  for (const name of cut.keys()) {
    const { dtype, shape, bytes } = await whole.getTensor(name);
    assertTensor(
      await cut.getTensor(name),
      partOf({ name, dtype, shape, bytes: new Uint8Array(bytes) }, 0, 1, 2),
    );
  }
});

test("a shard plan that does not fit a model opens nothing", async (folder) => {
  const path = `${folder}/x.safetensors`;
  await writeFile(path, [{ name: "x.bias", dtype: "F32", shape: [4] }]);
  const open = () => fastsafeOpen(path, { group: rankOf(0, 2), shardPlan: { "x.*": 1 } });
  await assertRejects(open, RangeError, '"x.*"');
  await assertRejects(() => fastsafeOpen(path, { shardPlan: { x: -1 } }), RangeError, "shardPlan");
});

test("a shard plan that fits no tensor is worth a note", async (folder) => {
  const path = `${folder}/x.safetensors`;
  const [x] = await writeFile(path, [{ name: "x", dtype: "F32", shape: [4] }]);
  await using model = await fastsafeOpen(path, { group: rankOf(0, 2), shardPlan: LLAMA_SHARDS });
  assertTensor(await model.getTensor("x"), x!);
  assertEquals(model.stats().notes.filter((note) => note.includes("shard plan")).length, 1);
  await using silent = await fastsafeOpen(path, { group: rankOf(0, 2), shardPlan: {} });
  assertEquals(silent.stats().notes.filter((note) => note.includes("shard plan")), []);
});

test("files by rank are all files for a shard plan", async (folder) => {
  const { paths, tensors } = await writeShards(folder, [[bf16("a", 4)], [bf16("b", 4)]]);
  await using model = await fastsafeOpen({ 0: paths[0]!, 1: [paths[1]!] }, {
    group: rankOf(0, 2),
    shardPlan: { "*": 0 },
  });
  for (const tensor of tensors) assertTensor(await model.getTensor(tensor.name), partOf(tensor, 0, 0, 2));
});

async function readBack(path: string, name: string): Promise<Written> {
  await using model = await fastsafeOpen(path);
  const { dtype, shape, bytes } = await model.getTensor(name);
  return { name, dtype, shape, bytes };
}
