/**
 * Failures of one rank: every rank gets its number and the reason, and the group stays usable.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { fastsafeOpen, GroupError, OutOfMemoryError, ReadError, SafeTensorsError } from "../../mod.ts";
import { SafeTensorsFileLoader } from "../../src/compat/mod.ts";
import { onRanks, runRanks } from "../support/fake_group.ts";
import { assertTensor, writeFile } from "../support/models.ts";
import { writeSparse } from "./sparse.ts";
import { assertBlames, partOf, test } from "./support.ts";

test("a file that cannot be opened fails on every rank", async (folder) => {
  const path = `${folder}/a.safetensors`;
  await writeFile(path, [{ name: "x", dtype: "F32", shape: [2] }]);
  await Deno.writeFile(`${folder}/bad.safetensors`, new Uint8Array(20).fill(1));
  for (
    const [missing, type] of [[`${folder}/none`, ReadError], [
      `${folder}/bad.safetensors`,
      SafeTensorsError,
    ]] as const
  ) {
    const { results } = await runRanks(3, async (group) => {
      await using loader = new SafeTensorsFileLoader(group);
      const failure = loader.addFilenames({ 0: [path], 2: [missing] });
      await assertRejects(() => failure, GroupError);
      await loader.addFilenames({ 0: [path] }); // the group is in order
      await failure;
    });
    for (const [rank, result] of results.entries()) {
      const error = assertBlames(result, 2, missing);
      assertEquals(error.cause instanceof type, rank === 2);
    }
  }
});

test("a file that is cut short after its header was read fails on every rank", async (folder) => {
  const [a, b] = [`${folder}/a.safetensors`, `${folder}/b.safetensors`];
  const [x] = await writeFile(a, [{ name: "x", dtype: "F32", shape: [20, 20] }]);
  await writeFile(b, [{ name: "y", dtype: "F32", shape: [20, 20] }, { name: "z", dtype: "F32", shape: [4] }]);
  await onRanks(3, async (group) => {
    await using loader = new SafeTensorsFileLoader(group);
    await loader.addFilenames({ 0: [a], 1: [b] });
    if (group.rank === 0) await Deno.truncate(b, 500);
    await group.barrier();
    await using buffer = await loader.copyFilesToDevice();
    const attempts = [
      () => buffer.getTensor("y"),
      () => buffer.getSharded("y", 1),
      () => buffer.pushTensor("y", 2),
      () => buffer.getMultiCols(["x", "y"], 0),
      () => buffer.asDict({ x: 0, y: 0 }),
      () => buffer.getTensor("z"),
    ];
    for (const attempt of attempts) {
      const [result] = await Promise.allSettled([attempt()]);
      const error = assertBlames(result!, 1, b);
      assertEquals(error.cause instanceof ReadError, group.rank === 1);
    }
    // The other file can still be had: nothing of it has been handed out.
    assertTensor(await buffer.getSharded("x", 0), partOf(x!, 0, group.rank, 3));
  });
});

test("tensors that do not fit in the memory of one rank fail on every rank", async (folder) => {
  const [a, huge] = [`${folder}/a.safetensors`, `${folder}/huge.safetensors`];
  await writeFile(a, [{ name: "x", dtype: "F32", shape: [2] }]);
  await writeSparse(huge, 2 ** 43);
  await onRanks(2, async (group) => {
    await using loader = new SafeTensorsFileLoader(group);
    await loader.addFilenames({ 0: [a], 1: [huge] });
    const [result] = await Promise.allSettled([loader.copyFilesToDevice()]);
    const error = assertBlames(result!, 1, "bytes of memory are needed");
    assertEquals(error.cause instanceof OutOfMemoryError, group.rank === 1);
    // The loader is empty, and goes on.
    assertEquals(loader.getKeys(), []);
    await loader.addFilenames({ 0: [a] });
    await using buffer = await loader.copyFilesToDevice();
    assertEquals((await buffer.getTensor("x")).shape, [2]);
  });
});

test("a rank that aborts keeps its reason, and is named to the others", async (folder) => {
  const paths = [`${folder}/a.safetensors`, `${folder}/b.safetensors`];
  for (const [index, path] of paths.entries()) {
    await writeFile(path, [{ name: `x${index}`, dtype: "F32", shape: [2] }, {
      name: `y${index}`,
      dtype: "F32",
      shape: [2],
    }]);
  }
  const reason = new Error("changed my mind");
  const { results } = await runRanks(2, async (group) => {
    const controller = new AbortController();
    await using model = await fastsafeOpen(paths, { group, signal: controller.signal });
    await model.getTensor("x0");
    if (group.rank === 1) controller.abort(reason);
    await model.getTensor("x1");
  });
  assertBlames(results[0]!, 1, "changed my mind");
  assertEquals(results[1], { status: "rejected", reason });
  // Aborted before anything is opened.
  const { results: early } = await runRanks(2, async (group) => {
    const signal = group.rank === 0 ? AbortSignal.abort(reason) : undefined;
    await using _model = await fastsafeOpen(paths, { group, ...signal ? { signal } : {} });
  });
  assertEquals(early[0], { status: "rejected", reason });
  assertBlames(early[1]!, 0, "changed my mind");
});

test("a rank that closes early is named in the errors of later calls", async (folder) => {
  const path = `${folder}/a.safetensors`;
  await writeFile(path, [{ name: "x", dtype: "F32", shape: [2] }, { name: "y", dtype: "F32", shape: [2] }]);
  const { results } = await runRanks(2, async (group) => {
    await using model = await fastsafeOpen(path, { group });
    if (group.rank === 1) return; // closes, and leaves the group
    await model.getTensor("x");
  });
  assertBlames(results[0]!, 1, "left the group");
});

test("a callback that throws on one rank fails on every rank", async (folder) => {
  const path = `${folder}/a.safetensors`;
  await writeFile(path, [{ name: "x", dtype: "F32", shape: [2] }]);
  const { results } = await runRanks(2, async (group) => {
    const names = () => {
      if (group.rank === 1) throw new Error("of the user");
      return true;
    };
    await using _model = await fastsafeOpen(path, { group, names });
  });
  for (const result of results) assertBlames(result, 1, "of the user");
});

test("ranks that ask for different things all get an error that says so", async (folder) => {
  const path = `${folder}/a.safetensors`;
  await writeFile(path, [{ name: "x", dtype: "F32", shape: [4] }, { name: "y", dtype: "F32", shape: [4] }]);
  const different = [
    ["x", "y"],
    ["x", "sharded x"],
  ];
  for (const asked of different) {
    const { results } = await runRanks(2, async (group) => {
      await using model = await fastsafeOpen(path, { group });
      const what = asked[group.rank]!;
      return what.startsWith("sharded ")
        ? await model.getSharded(what.slice(8), 0)
        : await model.getTensor(what);
    });
    for (const result of results) assertBlames(result, 1, "calls agree (get");
  }
  // The same tensor in different element types of the same size.
  const { results } = await runRanks(2, async (group) => {
    await using model = await fastsafeOpen(path, { group, dtype: group.rank === 0 ? "F16" : "BF16" });
    return await model.getTensor("x");
  });
  for (const result of results) assertBlames(result, 1, "x as BF16");
});

test("ranks that name different files all get an error that says so", async (folder) => {
  const [a, b] = [`${folder}/a.safetensors`, `${folder}/b.safetensors`];
  for (const path of [a, b]) await writeFile(path, [{ name: path, dtype: "F32", shape: [2] }]);
  const cases: [string[], string[]][] = [[[a, b], [b, a]], [[a], [a, b]]];
  for (const lists of cases) {
    const { results } = await runRanks(2, async (group) => {
      await using _model = await fastsafeOpen(lists[group.rank]!, { group });
    });
    for (const result of results) {
      assert(result.status === "rejected" && result.reason instanceof GroupError);
      assert(result.reason.message.includes("do not open the same files"), result.reason.message);
    }
  }
});
