/**
 * FilesBuffer over several ranks: what each gets, against parts that were picked element by element.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { GroupError, SafeTensorsError, UseAfterCloseError } from "../../mod.ts";
import { type FilesBuffer, SafeTensorsFileLoader } from "../../src/compat/mod.ts";
import { type FakeGroup, onRanks, runRanks } from "../support/fake_group.ts";
import { decode, encode } from "../support/floats.ts";
import { assertBytes, assertTensor, type TensorSpec, writeFile, type Written } from "../support/models.ts";
import { partOf, SPECS, test } from "./support.ts";

/** Writes a file for each list; tensors by name, with the rank of `size` that is to read them. */
async function writeFiles(
  folder: string,
  size: number,
  specs: readonly (readonly TensorSpec[])[] = SPECS,
): Promise<{ byRank: Record<number, string[]>; tensors: Map<string, Written & { owner: number }> }> {
  const byRank: Record<number, string[]> = {};
  const tensors = new Map<string, Written & { owner: number }>();
  for (const [index, list] of specs.entries()) {
    const path = `${folder}/${index}.safetensors`;
    const owner = index % size;
    (byRank[owner] ??= []).push(path);
    for (const tensor of await writeFile(path, list)) tensors.set(tensor.name, { ...tensor, owner });
  }
  return { byRank, tensors };
}

/** Opens files on a rank and gives the buffer to a function. */
async function withBuffer<R>(
  group: FakeGroup,
  files: Record<number, string[]>,
  use: (buffer: FilesBuffer) => Promise<R>,
): Promise<R> {
  await using loader = new SafeTensorsFileLoader(group);
  await loader.addFilenames(files);
  await using buffer = await loader.copyFilesToDevice();
  return await use(buffer);
}

for (const size of [2, 3, 4]) {
  test(`getTensor() gives ${size} ranks every tensor`, async (folder) => {
    const { byRank, tensors } = await writeFiles(folder, size);
    await onRanks(size, (group) =>
      withBuffer(group, byRank, async (buffer) => {
        // By rank, then as in the file; every rank knows all of it.
        const owners = [...tensors.values()].toSorted((a, b) => a.owner - b.owner);
        assertEquals(buffer.getKeys(), owners.map(({ name }) => name));
        for (const tensor of tensors.values()) {
          assertEquals(buffer.getShape(tensor.name), tensor.shape);
          assert(byRank[tensor.owner]!.includes(buffer.getFilename(tensor.name)));
          assertTensor(await buffer.getTensor(tensor.name), tensor);
        }
      }));
  });

  test(`getSharded() gives each of ${size} ranks its part, along every dimension`, async (folder) => {
    const { byRank, tensors } = await writeFiles(folder, size);
    const aligned = [...tensors.values()].filter(({ dtype }) => !["F4", "F6_E2M3"].includes(dtype));
    for (let dimension = 0; dimension < 4; dimension++) {
      await onRanks(size, (group) =>
        withBuffer(group, byRank, async (buffer) => {
          for (const tensor of aligned) {
            if (dimension >= tensor.shape.length) {
              const shard = () => buffer.getSharded(tensor.name, dimension);
              await assertRejects(shard, RangeError, `"${tensor.name}"`);
            } else {
              const part = await buffer.getSharded(tensor.name, dimension);
              assertTensor(part, partOf(tensor, dimension, group.rank, size));
            }
          }
        }));
    }
  });

  test(`pushTensor() gives one of ${size} ranks a tensor and the others null`, async (folder) => {
    const { byRank, tensors } = await writeFiles(folder, size);
    for (let destination = 0; destination < size; destination++) {
      await onRanks(size, (group) =>
        withBuffer(group, byRank, async (buffer) => {
          for (const tensor of tensors.values()) {
            const pushed = await buffer.pushTensor(tensor.name, destination);
            if (group.rank === destination) assertTensor(pushed!, tensor);
            else assertEquals(pushed, null);
          }
        }));
    }
  });
}

test("getSharded() cuts sub-byte tensors between bytes, and refuses to cut one", async (folder) => {
  const { byRank, tensors } = await writeFiles(folder, 2);
  const [nibbles, sixes] = [tensors.get("nibbles")!, tensors.get("sixes")!];
  const { results, trace } = await runRanks(2, (group) =>
    withBuffer(group, byRank, async (buffer) => {
      assertTensor(await buffer.getSharded("nibbles", 1), partOf(nibbles, 1, group.rank, 2));
      assertTensor(await buffer.getSharded("nibbles", 0), partOf(nibbles, 0, group.rank, 2));
      assertTensor(await buffer.getSharded("sixes", 1), partOf(sixes, 1, group.rank, 2));
      // Two elements of six bits are no whole bytes.
      const error = await assertRejects(() => buffer.getSharded("sixes", 2), SafeTensorsError);
      assertEquals([error.code, error.tensor], ["MisalignedSlice", "sixes"]);
      assertTensor(await buffer.getTensor("nibbles"), nibbles);
    }));
  assertEquals(results.map(({ status }) => status), ["fulfilled", "fulfilled"]);
  assertEquals(trace.filter((call) => call.includes("sixes")).length, 2); // the refused call made none
});

test("getSharded() packs a large tensor piece by piece", async (folder) => {
  // Rows of 8192 bytes: with pieces of 8 MiB three scatters, the last of them smaller.
  const specs = [[{ name: "large", dtype: "U8", shape: [2500, 8192] }, {
    name: "next",
    dtype: "U8",
    shape: [3],
  }]] as const;
  const { byRank, tensors } = await writeFiles(folder, 2, specs);
  const { results, trace } = await runRanks(2, (group) =>
    withBuffer(group, byRank, async (buffer) => {
      const part = await buffer.getSharded("large", 1);
      const expected = new Uint8Array(2500 * 4096);
      for (let row = 0; row < 2500; row++) {
        const start = row * 8192 + group.rank * 4096;
        expected.set(tensors.get("large")!.bytes.subarray(start, start + 4096), row * 4096);
      }
      assertBytes(part.bytes, expected, `rank ${group.rank}`);
    }));
  assertEquals(results.map(({ status }) => status), ["fulfilled", "fulfilled"]);
  assertEquals(trace.filter((call) => call.startsWith("scatter")).length, 3);
});

test("getSharded() along the first dimension scatters the memory as it is", async (folder) => {
  const { byRank } = await writeFiles(folder, 3);
  const { trace } = await runRanks(
    3,
    (group) => withBuffer(group, byRank, (buffer) => buffer.getSharded("cube", 0)),
  );
  assertEquals(trace.slice(-1), ["scatter from 0 (cube as BF16)"]);
});

test("getMultiCols() joins parts in the order asked, from whichever ranks", async (folder) => {
  const specs: TensorSpec[][] = ["q", "k", "v"].map((name, index) => [
    { name, dtype: "F16", shape: [6, 4 + 2 * index] },
    { name: `${name}.other`, dtype: "U8", shape: [1] },
  ]);
  const { byRank, tensors } = await writeFiles(folder, 2, specs);
  for (const names of [["k", "q", "v"], ["v", "k"], ["q"], ["q", "q"]]) {
    await onRanks(2, (group) =>
      withBuffer(group, byRank, async (buffer) => {
        const joined = await buffer.getMultiCols(names, 1);
        const parts = names.map((name) => partOf(tensors.get(name)!, 1, group.rank, 2));
        const rows = Array.from({ length: 6 }, (_, row) =>
          parts.flatMap((
            { bytes },
          ) => [...bytes.subarray(row * bytes.length / 6, (row + 1) * bytes.length / 6)]));
        const columns = parts.reduce((sum, { shape }) => sum + shape[1]!, 0);
        assertEquals([joined.name, joined.dtype, joined.shape], [names.join("+"), "F16", [6, columns]]);
        assertBytes(joined.bytes, Uint8Array.from(rows.flat()), names.join("+"));
      }));
  }
});

test("asDict() gives whole tensors and parts", async (folder) => {
  const { byRank, tensors } = await writeFiles(folder, 2);
  await onRanks(2, (group) =>
    withBuffer(group, byRank, async (buffer) => {
      const some = await buffer.asDict({ cube: 1, scalar: -1, deep: 3, single: null, matrix: 0 });
      assertEquals([...some.keys()], ["cube", "scalar", "deep", "single", "matrix"]);
      for (const [name, dimension] of [["cube", 1], ["deep", 3], ["matrix", 0]] as const) {
        assertTensor(some.get(name)!, partOf(tensors.get(name)!, dimension, group.rank, 2));
      }
      for (const name of ["scalar", "single"]) assertTensor(some.get(name)!, tensors.get(name)!);
      await assertRejects(() => buffer.asDict({ cube: 7 }), RangeError, '"cube"');
    }));
  const { results, trace } = await runRanks(2, (group) =>
    withBuffer(group, byRank, async (buffer) => {
      const all = await buffer.asDict();
      for (const tensor of tensors.values()) assertTensor(all.get(tensor.name)!, tensor);
    }));
  assertEquals(results.map(({ status }) => status), ["fulfilled", "fulfilled"]);
  assertEquals(trace.filter((call) => call === "agree (asDict())").length, 1); // one agreement for all that is small
});

test("casts happen at the owner, on the way from the file", async (folder) => {
  const values = [0.5, -2, 1.25, 3, 7, -8];
  const specs = [[{ name: "x", dtype: "BF16", shape: [3, 2], bytes: encode(values, "BF16") }]] as const;
  const { byRank } = await writeFiles(folder, 2, specs);
  await onRanks(2, async (group) => {
    await using loader = new SafeTensorsFileLoader(group);
    await loader.addFilenames(byRank);
    await using buffer = await loader.copyFilesToDevice({ dtype: "F32" });
    const part = await buffer.getSharded("x", 1);
    assertEquals([part.dtype, part.shape], ["F32", [3, 1]]);
    assertEquals(decode(part.bytes, "F32"), values.filter((_, index) => index % 2 === group.rank));
  });
});

test("a rank without files takes part", async (folder) => {
  const path = `${folder}/only.safetensors`;
  const [x] = await writeFile(path, [{ name: "x", dtype: "F32", shape: [5, 2] }]);
  for (const files of [{ 1: [path] }, { 0: [], 1: [path], 2: [] }]) {
    await onRanks(3, (group) =>
      withBuffer(group, files, async (buffer) => {
        assertEquals([buffer.getKeys(), buffer.getFilename("x")], [["x"], path]);
        assertEquals(buffer.stats().files, group.rank === 1 ? 1 : 0);
        assertTensor(await buffer.getSharded("x", 0), partOf(x!, 0, group.rank, 3));
        const error = await assertRejects(() => buffer.getTensor("x"), UseAfterCloseError);
        assert(error.message.includes("already returned"), error.message);
      }));
  }
});

test("files are read by their owner only", async (folder) => {
  const { byRank, tensors } = await writeFiles(folder, 2);
  const read = await onRanks(2, (group) =>
    withBuffer(group, byRank, async (buffer) => {
      await buffer.asDict();
      return buffer.stats().bytes;
    }));
  const owned = (rank: number) =>
    [...tensors.values()].reduce((sum, { bytes, owner }) => sum + (owner === rank ? bytes.byteLength : 0), 0);
  assertEquals(read, [owned(0), owned(1)]);
});

test("calls are made in the order in which they were called, on all ranks alike", async (folder) => {
  const { byRank, tensors } = await writeFiles(folder, 2);
  const names = ["deep", "matrix", "cube", "uneven", "wide", "vector"];
  const { results, trace } = await runRanks(2, (group) =>
    withBuffer(group, byRank, async (buffer) => {
      const order: string[] = [];
      await Promise.all(names.map(async (name) => {
        assertTensor(await buffer.getTensor(name), tensors.get(name)!);
        order.push(name);
      }));
      assertEquals(order, names);
    }));
  assertEquals(results.map(({ status }) => status), ["fulfilled", "fulfilled"]);
  const moved = trace.filter((call) => call.startsWith("broadcast")).map((call) =>
    /\((\w+) as/.exec(call)![1]
  );
  assertEquals(moved, names);
});

test("two buffers of one group do not get into each other's way", async (folder) => {
  const { tensors } = await writeFiles(folder, 2);
  await onRanks(2, async (group) => {
    await using loader = new SafeTensorsFileLoader(group);
    await loader.addFilenames({ 0: [`${folder}/0.safetensors`] });
    await using first = await loader.copyFilesToDevice();
    await loader.addFilenames({ 1: [`${folder}/1.safetensors`] });
    await using second = await loader.copyFilesToDevice();
    const wanted = ["cube", "vector", "matrix", "empty", "scalar", "uneven"];
    const taken = await Promise.all(
      wanted.map((name) => (first.getKeys().includes(name) ? first : second).getTensor(name)),
    );
    for (const tensor of taken) assertTensor(tensor, tensors.get(tensor.name)!);
  });
});

test("an owner's memory is released once every tensor of a file was returned", async (folder) => {
  const { byRank, tensors } = await writeFiles(folder, 2);
  await onRanks(2, (group) =>
    withBuffer(group, byRank, async (buffer) => {
      const [matrix] = await Promise.all([buffer.getTensor("matrix"), buffer.getTensor("uneven")]);
      assertTensor(await buffer.getTensor("matrix"), tensors.get("matrix")!); // still there
      await buffer.pushTensor("scalar", 1);
      await buffer.getMultiCols(["cube"], 0);
      for (const name of ["matrix", "cube", "scalar"]) {
        const error = await assertRejects(() => buffer.getTensor(name), UseAfterCloseError);
        assert(error.message.includes(`"${name}"`) && error.message.includes("0.safetensors"), error.message);
      }
      await assertRejects(() => buffer.getSharded("cube", 0), UseAfterCloseError);
      await assertRejects(() => buffer.pushTensor("cube", 0), UseAfterCloseError);
      await assertRejects(() => buffer.asDict({ cube: 0, deep: 0 }), UseAfterCloseError);
      assertTensor(matrix, tensors.get("matrix")!); // returned tensors stay valid
      assertTensor(await buffer.getTensor("deep"), tensors.get("deep")!); // another file
      // Not a matter of what is in memory.
      const part = await buffer.getSharded("cube", 1, { from: "file" });
      assertTensor(part, partOf(tensors.get("cube")!, 1, group.rank, 2));
    }));
});

test('getSharded(…, { from: "file" }) makes no call of the group', async (folder) => {
  const { byRank, tensors } = await writeFiles(folder, 3);
  const { results, trace } = await runRanks(3, (group) =>
    withBuffer(group, byRank, async (buffer) => {
      for (const tensor of tensors.values()) {
        if (["F4", "F6_E2M3"].includes(tensor.dtype)) continue;
        for (const dimension of tensor.shape.keys()) {
          const part = await buffer.getSharded(tensor.name, dimension, { from: "file" });
          assertTensor(part, partOf(tensor, dimension, group.rank, 3));
        }
      }
      await assertRejects(
        () => buffer.getSharded("scalar", 0, { from: "file" }),
        RangeError,
        "no dimensions",
      );
      await assertRejects(() => buffer.getSharded("cube", 0, { from: "disk" as "file" }), TypeError, "disk");
    }));
  assertEquals(results.map(({ status }) => status), ["fulfilled", "fulfilled", "fulfilled"]);
  assertEquals(trace.length, 3); // those of the opening
});

test('getSharded(…, { from: "file" }) refuses another file than the owner has read', async (folder) => {
  const path = `${folder}/model.safetensors`;
  await writeFile(path, [{ name: "x", dtype: "F32", shape: [4, 4] }]);
  await onRanks(2, (group) =>
    withBuffer(group, { 0: [path] }, async (buffer) => {
      await group.barrier();
      if (group.rank === 0) await Deno.rename(path, `${folder}/old`);
      if (group.rank === 0) await writeFile(path, [{ name: "x", dtype: "F32", shape: [16] }]);
      await group.barrier();
      const shard = () => buffer.getSharded("x", 0, { from: "file" });
      await assertRejects(shard, Error, "is it the same file for every rank?");
      await group.barrier();
    }));
});

test("addFilenames() finds a name twice, on every rank", async (folder) => {
  const [a, b] = [`${folder}/a.safetensors`, `${folder}/b.safetensors`];
  for (const path of [a, b]) await writeFile(path, [{ name: "x", dtype: "F32", shape: [2] }]);
  await onRanks(2, async (group) => {
    await using loader = new SafeTensorsFileLoader(group);
    const error = await assertRejects(() => loader.addFilenames({ 0: [a], 1: [b] }), SafeTensorsError);
    assertEquals([error.code, error.tensor, error.path], ["DuplicateName", "x", b]);
    await loader.addFilenames({ 0: [a] });
    const again = await assertRejects(() => loader.addFilenames({ 1: [b] }), SafeTensorsError);
    assertEquals([again.code, again.path], ["DuplicateName", b]);
    assertEquals(loader.getKeys(), ["x"]);
  });
});

test("addFilenames() takes what a rank knows, as long as it is true", async (folder) => {
  const { byRank, tensors } = await writeFiles(folder, 2);
  // Each rank names its own files only.
  await onRanks(2, (group) =>
    withBuffer(group, { [group.rank]: byRank[group.rank]! }, async (buffer) => {
      assertEquals(buffer.getKeys().toSorted(), [...tensors.keys()].toSorted());
      assertTensor(await buffer.getTensor("deep"), tensors.get("deep")!);
    }));
  // Rank 1 has another idea of rank 0's files.
  await onRanks(2, async (group) => {
    await using loader = new SafeTensorsFileLoader(group);
    const files = group.rank === 0 ? byRank : { ...byRank, 0: [`${folder}/other.safetensors`] };
    const error = await assertRejects(
      () => loader.addFilenames(files),
      GroupError,
      "do not open the same files",
    );
    assertEquals(error.rank, 1);
    assert(
      error.reason.includes("other.safetensors") && error.reason.includes("0.safetensors"),
      error.reason,
    );
  });
});

test("addFilenames() refuses ranks that the group does not have, and no files at all", async (folder) => {
  const path = `${folder}/a.safetensors`;
  await writeFile(path, [{ name: "x", dtype: "F32", shape: [2] }]);
  await onRanks(2, async (group) => {
    await using loader = new SafeTensorsFileLoader(group);
    await assertRejects(() => loader.addFilenames({ 2: [path] }), RangeError, 'rank "2"');
    await assertRejects(() => loader.addFilenames({ 0: [""] }), TypeError, "not a path");
    await assertRejects(() => loader.addFilenames({}), TypeError, "empty");
    await assertRejects(() => loader.addFilenames({ 0: [], 1: [] }), TypeError, "empty");
  });
});
