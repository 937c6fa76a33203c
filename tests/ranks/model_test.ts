/**
 * A model over several ranks, whose files each have been opened by one of them.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { fastsafeOpen, SafeTensorsError, UseAfterCloseError } from "../../mod.ts";
import { openPyTorch } from "../../src/pytorch/mod.ts";
import { onRanks, runRanks } from "../support/fake_group.ts";
import { decode, encode } from "../support/floats.ts";
import {
  assertBytes,
  assertTensor,
  type TensorSpec,
  writeFile,
  writeShards,
  type Written,
} from "../support/models.ts";
import { bytesRead } from "../support/process.ts";
import { partOf, SPECS, test } from "./support.ts";

const byName = (tensors: readonly Written[]) => new Map(tensors.map((tensor) => [tensor.name, tensor]));

for (const lazy of [false, true]) {
  const what = lazy ? "a lazy model" : "a model";

  test(`${what} deals its files out and gives every rank every tensor`, async (folder) => {
    const { indexPath, paths, tensors } = await writeShards(folder, SPECS, { metadata: { format: "pt" } });
    for (const files of [indexPath, folder, paths, { 1: paths }]) {
      await onRanks(2, async (group) => {
        await using model = await fastsafeOpen(files, { group, lazy });
        assertEquals(model.keys(), tensors.map(({ name }) => name));
        assertEquals(model.files(), paths);
        assertEquals(paths.map((path) => model.metadata(path)), paths.map(() => ({ format: "pt" })));
        for (const tensor of tensors) {
          const { name, dtype, shape, byteLength, path } = model.info(tensor.name);
          assertEquals([name, dtype, shape, byteLength], [
            tensor.name,
            tensor.dtype,
            tensor.shape,
            tensor.bytes.byteLength,
          ]);
          assert(paths.includes(path));
          assertTensor(await model.getTensor(name), tensor);
        }
        if (!Array.isArray(files) && typeof files === "object") {
          assertEquals(model.stats().files, group.rank === 1 ? 3 : 0);
        } else assertEquals(model.stats().files, group.rank === 0 ? 2 : 1);
      });
    }
  });

  test(`${what} gives every rank dequantized tensors, and casts of integers`, async (folder) => {
    const weight = { dtype: "F8_E4M3", shape: [4, 2], bytes: new Uint8Array(8).fill(0x38) } as const; // 1
    const scale = {
      dtype: "F32",
      shape: [4, 1],
      bytes: new Uint8Array(new Float32Array([2, 3, 4, 5]).buffer),
    } as const;
    const ids = {
      dtype: "I64",
      shape: [2],
      bytes: new Uint8Array(new BigInt64Array([7n, 8n]).buffer),
    } as const;
    const { indexPath } = await writeShards(folder, [
      [{ ...weight, name: "a.weight" }, { ...scale, name: "a.weight_scale" }],
      [{ ...weight, name: "b.weight" }, { ...ids, name: "ids" }],
      [{ ...scale, name: "b.weight_scale" }],
    ]);
    await onRanks(2, async (group) => {
      await using model = await fastsafeOpen(indexPath, { group, lazy, dequantize: true, dtype: "F32" });
      assertEquals(model.keys(), ["a.weight", "b.weight", "ids"]);
      for (const name of ["a.weight", "b.weight"]) {
        const expected = group.rank === 0 ? [2, 2, 3, 3] : [4, 4, 5, 5];
        const own = await model.getSharded(name, 0, { from: "file" });
        assertEquals([...own.toFloat32()], expected);
        assertEquals([...(await model.getSlice(name, 1)).toFloat32()], [3, 3]);
        // An eager model releases a tensor after it was sent.
        if (lazy) assertEquals([...(await model.getSharded(name, 0)).toFloat32()], expected);
        assertEquals([...(await model.getTensor(name)).toFloat32()], [2, 2, 3, 3, 4, 4, 5, 5]);
      }
      assertEquals((await model.getTensor("ids", { dtype: "I32" })).data, new Int32Array([7, 8]));
    });
  });

  test(`${what} gives every rank its part`, async (folder) => {
    const { paths, tensors } = await writeShards(folder, SPECS);
    const written = byName(tensors);
    await onRanks(3, async (group) => {
      await using model = await fastsafeOpen(paths, { group, lazy });
      for (
        const [name, dimension] of [["cube", 2], ["matrix", 0], ["deep", 1], ["vector", 0], [
          "empty",
          1,
        ]] as const
      ) {
        assertTensor(
          await model.getSharded(name, dimension),
          partOf(written.get(name)!, dimension, group.rank, 3),
        );
      }
      await assertRejects(() => model.getSharded("scalar", 0), RangeError, "no dimensions");
      const part = await model.getSharded("cube", 1, { from: "file" });
      assertTensor(part, partOf(written.get("cube")!, 1, group.rank, 3));
    });
  });

  test(`${what} gives each rank its own slices`, async (folder) => {
    const { paths, tensors } = await writeShards(folder, SPECS);
    const matrix = byName(tensors).get("matrix")!;
    await onRanks(2, async (group) => {
      await using model = await fastsafeOpen(paths, { group, lazy });
      for (const row of [3, 5]) {
        const slice = await model.getSlice("matrix", row + group.rank);
        const start = (row + group.rank) * 16;
        assertEquals(slice.shape, [8]);
        assertBytes(slice.bytes, matrix.bytes.slice(start, start + 16), `row of rank ${group.rank}`);
      }
    });
  });

  test(`${what} gives every rank the numbers of the file, whatever dtype it was opened with`, async (folder) => {
    const source = encode([1.2345678, 1e-30, 0.1, 65504.5], "F32");
    const { paths } = await writeShards(folder, [
      [{ name: "x", dtype: "F32", shape: [2, 2], bytes: source }],
      [
        { name: "y", dtype: "U8", shape: [1] },
      ],
    ]);
    await onRanks(2, async (group) => {
      await using model = await fastsafeOpen(paths, { group, lazy, dtype: "F16" });
      const row = await model.getSlice("x", 1, { dtype: "F32" });
      assertBytes(row.bytes, source.slice(8), "the second row");
      assertBytes((await model.getTensor("x", { dtype: "F32" })).bytes, source, "x");
    });
  });

  test(`${what} is iterated over many operations, and ended in any of them`, async (folder) => {
    const specs = Array.from(
      { length: 3 },
      (_, file) =>
        Array.from({ length: 300 }, (_, index): TensorSpec => {
          return { name: `${file}.${index}`, dtype: "U8", shape: [1 + index % 5] };
        }),
    );
    const { paths, tensors } = await writeShards(folder, specs);
    const written = byName(tensors);
    for (const last of [900, 257, 3]) {
      const orders = await onRanks(2, async (group) => {
        await using model = await fastsafeOpen(paths, { group, lazy });
        const order: string[] = [];
        for await (const [name, tensor] of model) {
          assertBytes(tensor.bytes, written.get(name)!.bytes, name);
          if (order.push(name) === last) break;
        }
        await group.barrier(); // the group is in order
        return order;
      });
      assertEquals(orders[0], orders[1]);
      assertEquals(new Set(orders[0]).size, last);
    }
  });

  test(`${what} is iterated in one order by all ranks, also twice over where that can be`, async (folder) => {
    const { paths, tensors } = await writeShards(folder, SPECS);
    const written = byName(tensors);
    const orders = await onRanks(2, async (group) => {
      await using model = await fastsafeOpen(paths, { group, lazy, dtype: "F32" });
      const order: string[] = [];
      for await (const [name, tensor] of model) {
        assertEquals(tensor.shape, written.get(name)!.shape);
        order.push(name);
      }
      const again = async () => {
        for await (const [name] of model) order.push(name);
      };
      if (lazy) await again();
      else await assertRejects(again, UseAfterCloseError, "already returned");
      return order;
    });
    assertEquals(orders[0], orders[1]);
    assertEquals(orders[0]!.toSorted(), [...written.keys(), ...lazy ? written.keys() : []].toSorted());
  });
}

test("getTensor() of several ranks casts as it is asked to", async (folder) => {
  const values = [1 / 3, -2, 1e-3, 3];
  const bytes = encode(values, "F32");
  await writeFile(`${folder}/x.safetensors`, [{ name: "x", dtype: "F32", shape: [4], bytes }, {
    name: "y",
    dtype: "U8",
    shape: [1],
  }]);
  for (const lazy of [false, true]) {
    await onRanks(2, async (group) => {
      await using model = await fastsafeOpen([`${folder}/x.safetensors`], { group, lazy });
      for (const dtype of ["F16", "BF16", "F32", "F64"] as const) {
        const tensor = await model.getTensor("x", { dtype });
        assertEquals(tensor.dtype, dtype);
        assertBytes(tensor.bytes, encode(decode(bytes, "F32"), dtype), dtype);
      }
      const error = await assertRejects(() => model.getTensor("y", { dtype: "F32" }), SafeTensorsError);
      assertEquals(error.code, "UnsupportedCast");
    });
  }
});

test("a lazy model of several ranks reads what is asked for, at its owner, as often as it is asked for", async (folder) => {
  const { paths } = await writeShards(folder, [
    [{ name: "a", dtype: "U8", shape: [3000] }, { name: "b", dtype: "U8", shape: [5000] }],
    [{ name: "c", dtype: "U8", shape: [7000] }],
  ]);
  const read = await onRanks(2, async (group) => {
    await using model = await fastsafeOpen(paths, { group, lazy: true });
    await Promise.all([model.getTensor("a"), model.getSharded("c", 0)]);
    await model.getTensor("a");
    return model.stats().bytes;
  });
  assertEquals(read, [6000, 7000]);
});

test("names leaves tensors out on all ranks, and releases a file with those that are left", async (folder) => {
  const { paths, tensors } = await writeShards(folder, SPECS);
  const written = byName(tensors);
  await onRanks(2, async (group) => {
    await using model = await fastsafeOpen(paths, { group, names: ["cube", "deep", "vector"] });
    assertEquals(model.keys(), ["cube", "vector", "deep"]);
    assertTensor(await model.getTensor("cube"), written.get("cube")!);
    await assertRejects(() => model.getTensor("cube"), UseAfterCloseError);
    await assertRejects(() => model.getTensor("matrix"), SafeTensorsError, "does not select it");
    await model.whenLoaded();
    assertEquals(model.stats().tensors, group.rank === 0 ? 2 : 1);
  });
});

test("restoreAliases gives every rank all names", async (folder) => {
  const path = `${folder}/tied.safetensors`;
  const [kept] = await writeFile(path, [{ name: "kept", dtype: "F16", shape: [4, 2] }], {
    metadata: { other: "kept" },
  });
  await onRanks(3, async (group) => {
    await using model = await fastsafeOpen({ 1: path }, { group, restoreAliases: true });
    assertEquals(model.keys(), ["kept", "other"]);
    assertTensor(await model.getTensor("other"), { ...kept!, name: "other" });
    assertTensor(await model.getSharded("kept", 0), partOf(kept!, 0, group.rank, 3));
  });
});

test("the index and the files are compared, whichever rank has them", async (folder) => {
  const { indexPath } = await writeShards(folder, SPECS);
  const index = JSON.parse(await Deno.readTextFile(indexPath));
  index.weight_map.absent = "model-00001-of-00003.safetensors";
  await Deno.writeTextFile(indexPath, JSON.stringify(index));
  await onRanks(2, async (group) => {
    await using model = await fastsafeOpen(indexPath, { group });
    const notes = model.stats().notes.filter((note) => note.includes("do not have what it lists"));
    assertEquals(notes, [
      `The shards of the index "${indexPath}" do not have what it lists: tensor "absent"`,
    ]);
    const error = await assertRejects(() => model.getTensor("absent"), SafeTensorsError);
    assertEquals([error.code, error.tensor], ["TensorNotFound", "absent"]);
    await group.barrier();
  });
});

test("the index decides where a name is that files of two ranks have", async (folder) => {
  const files = ["x-1-of-2.safetensors", "x-2-of-2.safetensors"];
  const write = (file: string, byte: number) =>
    writeFile(`${folder}/${file}`, [
      { name: "same", dtype: "U8", shape: [4], bytes: new Uint8Array(4).fill(byte) },
      { name: file, dtype: "U8", shape: [4] },
    ]);
  for (const [byte, file] of files.entries()) await write(file, byte);
  const indexPath = `${folder}/x.safetensors.index.json`;
  for (const [byte, file] of files.entries()) {
    const map = { same: file, [files[0]!]: files[0], [files[1]!]: files[1] };
    await Deno.writeTextFile(indexPath, JSON.stringify({ weight_map: map }));
    await onRanks(2, async (group) => {
      await using model = await fastsafeOpen(folder, { group });
      assertEquals((await model.getTensor("same")).bytes, new Uint8Array(4).fill(byte));
      assertEquals(model.info("same").path, `${folder}/${file}`);
      await group.barrier();
    });
  }
});

test("openPyTorch() deals checkpoints out as well", async () => {
  const data = new URL("../data/pytorch/", import.meta.url).pathname;
  for (const name of ["views", "tied", "legacy"]) {
    await using alone = await openPyTorch(`${data}${name}.pt`);
    const expected = new Map<string, { shape: readonly number[]; bytes: Uint8Array }>();
    for await (const [name, { shape, bytes }] of alone) expected.set(name, { shape, bytes });
    for (const lazy of [false, true]) {
      await onRanks(2, async (group) => {
        await using model = await openPyTorch({ 1: `${data}${name}.pt` }, { group, lazy });
        assertEquals(model.keys().toSorted(), [...expected.keys()].toSorted());
        for (const [name, { shape, bytes }] of expected) {
          const tensor = await model.getTensor(name);
          assertEquals([tensor.name, tensor.shape], [name, shape]);
          assertBytes(tensor.bytes, bytes, name);
        }
      });
    }
    // Parts of what has to be put together, too.
    await onRanks(2, async (group) => {
      await using model = await openPyTorch({ 1: `${data}${name}.pt` }, { group });
      for (const [name, { shape, bytes }] of expected) {
        if (shape.length === 0) continue;
        const part = await model.getSharded(name, 0, { from: "file" });
        const { dtype } = part;
        assertTensor(part, partOf({ name, dtype, shape, bytes: new Uint8Array(bytes) }, 0, group.rank, 2));
      }
    });
  }
});

test("what a rank reads of a file is its own part", async (folder) => {
  const path = `${folder}/large.safetensors`;
  await writeFile(path, [{ name: "x", dtype: "F32", shape: [1024, 1024] }]);
  for (const dimension of [0, 1]) {
    const { results } = await runRanks(4, async (group) => {
      await using model = await fastsafeOpen({ 0: path }, { group, lazy: true });
      if (group.rank !== 3) return { counted: 0, asked: 0 };
      const before = bytesRead();
      await model.getSharded("x", dimension, { from: "file" });
      return { counted: model.stats().bytes, asked: bytesRead() - before };
    });
    const last = results[3]!;
    assert(last.status === "fulfilled");
    assertEquals(last.value.counted, 2 ** 20);
    // Columns are read with the short gaps between them, at most all of the tensor. Besides: the header of the file, and
    // whatever else this process does.
    const most = dimension === 0 ? 2 ** 20 : 2 ** 22;
    assert(last.value.asked < most + 300_000, `${last.value.asked} bytes`);
  }
});
