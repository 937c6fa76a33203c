/**
 * Pitfalls of 3FS' interface, one test each.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { DeviceError, fastsafeOpen, type OpenOptions, ReadError } from "../../mod.ts";
import { extractMountPoint } from "../../src/three_fs/mod.ts";
import { assertTensor, type TensorSpec, writeFile, type Written } from "../support/models.ts";
import { onRanks } from "../support/fake_group.ts";
import { use3fs, usrbioSuite } from "./support.ts";

const machine = await use3fs();

const SPECS: TensorSpec[] = [
  { name: "large", dtype: "F32", shape: [700, 1000] },
  { name: "small", dtype: "U8", shape: [77] },
  { name: "half", dtype: "BF16", shape: [500, 1001] },
];

/** Loads a file through 3FS, and compares every tensor. */
async function assertLoads(path: string, tensors: readonly Written[], options: OpenOptions<"cpu"> = {}) {
  await using model = await fastsafeOpen(path, { source: "3fs", ...options });
  for (const tensor of tensors) assertTensor(await model.getTensor(tensor.name), tensor);
  await model.whenLoaded();
  assertEquals(model.stats().path, "3fs");
}

usrbioSuite("The traps of 3FS' interface", machine, (test, standIn) => {
  const model = async (folder: string): Promise<[string, Written[]]> => {
    const path = `${folder}/model.safetensors`;
    return [path, await writeFile(path, SPECS, { misalignment: 3 })];
  };

  test("a path that does not exist does not end the process", async (folder) => {
    const error = await assertRejects(() => extractMountPoint(`${folder}/missing`), ReadError);
    assertEquals(error.errno, 2);
    await assertRejects(
      () => fastsafeOpen(`${folder}/missing`, { source: "3fs" }),
      ReadError,
      "no such file or directory",
    );
  });

  test("a file outside of a mount is an ordinary file, or an error if 3FS is required", async () => {
    const outside = await Deno.makeTempFile();
    try {
      const tensors = await writeFile(outside, SPECS);
      assertEquals(await extractMountPoint(outside), null);
      await assertRejects(() => fastsafeOpen(outside, { source: "3fs" }), DeviceError, "it is not on 3FS");
      await using model = await fastsafeOpen(outside);
      assertTensor(await model.getTensor("small"), tensors[1]!);
      await model.whenLoaded();
      assertEquals([model.stats().path, model.stats().notes], ["buffered", []]);
    } finally {
      await Deno.remove(outside);
    }
  });

  test("a mount point of 256 bytes is too long", async (folder) => {
    const mount = `${folder}/${"m".repeat(255)}`;
    await Deno.mkdir(`${mount}/3fs-virt/iovs`, { recursive: true });
    const tensors = await writeFile(`${mount}/model.safetensors`, SPECS);
    using _ = standIn.set({ FST_SIM_3FS_MOUNT: mount });
    await assertRejects(
      () => fastsafeOpen(`${mount}/model.safetensors`, { source: "3fs" }),
      Error,
      "name too long",
    );
    await assertRejects(() => extractMountPoint(mount), ReadError, "name too long");
    assertEquals(tensors.length, 3);
  });

  test("a mount that does not answer causes a note, or an error if 3FS is required", async (folder) => {
    const [path, tensors] = await model(folder);
    await Deno.rename(`${standIn.mount}/3fs-virt/iovs`, `${standIn.mount}/3fs-virt/elsewhere`);
    try {
      const error = await assertRejects(() => fastsafeOpen(path, { source: "3fs" }), DeviceError);
      assertStringIncludes(
        error.message,
        `the mount "${standIn.mount}" does not answer: hf3fs_iovcreate failed`,
      );
      assertEquals([error.library, error.code], ["hf3fs", 2]);
      await using opened = await fastsafeOpen(path);
      assertTensor(await opened.getTensor("large"), tensors[0]!);
      await opened.whenLoaded();
      const { path: way, notes } = opened.stats();
      assertEquals([way, notes.length], ["buffered", 1]);
      assertStringIncludes(notes[0]!, "Files on 3FS use ordinary reads: the mount");
    } finally {
      await Deno.rename(`${standIn.mount}/3fs-virt/elsewhere`, `${standIn.mount}/3fs-virt/iovs`);
    }
  });

  test("a positive errno of reg_fd is an error, not a success", async (folder) => {
    const [path, tensors] = await model(folder);
    using _ = standIn.fail("reg_fd:*:24");
    const error = await assertRejects(() => fastsafeOpen(path, { source: "3fs" }), DeviceError);
    assertStringIncludes(error.message, `registering "${path}" failed: too many open files (EMFILE)`);
    assertEquals(error.code, 24);
    await using opened = await fastsafeOpen(path);
    assertTensor(await opened.getTensor("half"), tensors[2]!);
    await opened.whenLoaded();
    assertEquals(opened.stats().path, "buffered");
    assertStringIncludes(opened.stats().notes[0]!, "too many open files");
  });

  test("a descriptor's number that is still registered is registered again", async (folder) => {
    const [path, tensors] = await model(folder);
    { // The mount disappears while the file is open: the library then releases nothing.
      await using opened = await fastsafeOpen(path, { source: "3fs", lazy: true });
      using _ = standIn.fail("is_hf3fs:*:0");
      await opened.close();
    }
    assertEquals(standIn.report().live.fds, 1);
    await assertLoads(path, tensors);
    const { live, violations } = standIn.report();
    assertEquals([live.fds, Object.keys(violations.kinds)], [0, ["double-register"]]);
    standIn.reset();
  });

  test("a file can be open several times", async (folder) => {
    const [path, tensors] = await model(folder);
    await Promise.all([1, 2, 3].map(() => assertLoads(path, tensors)));
  });

  test("a full ring (EAGAIN) is retried", async (folder) => {
    const [path, tensors] = await model(folder);
    for (
      const spec of [
        "prep_io:1:-11",
        "prep_io:2:-11,prep_io:3:-11",
        "prep_io:1:-11,prep_io:2:-11,prep_io:5:-11",
      ]
    ) {
      using _ = standIn.fail(spec);
      await assertLoads(path, tensors, { maxThreads: 2 });
      assert(standIn.report().counts.injected > 0, spec);
    }
    standIn.reset();
    for (const entries of [1, 2, 3]) {
      await assertLoads(path, tensors, { usrbio: { entries } });
      assert(standIn.report().counts.mostInFlight <= Math.max(1, entries));
      standIn.reset();
    }
  });

  test("a ring that stays full fails after the timeout", async (folder) => {
    const [path] = await model(folder);
    using _ = standIn.fail("prep_io:*:-11");
    await using opened = await fastsafeOpen(path, { source: "3fs", usrbio: { timeoutSeconds: 0.1 } });
    const error = await assertRejects(() => opened.getTensor("large"), ReadError);
    assertEquals(error.errno, 110);
  });

  test("completions are accepted in any order", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const tensors = await writeFile(path, [{ name: "x", dtype: "U8", shape: [9_000_001] }]);
    for (const seed of ["1", "2", "3"]) {
      using _ = standIn.set({
        FST_SIM_3FS_SEED: seed,
        FST_SIM_3FS_DELAY_US: "300",
        FST_SIM_3FS_WORKERS: "16",
      });
      await assertLoads(path, tensors, { maxThreads: 2, usrbio: { bufferBytes: 2 ** 20 } });
      const { outOfOrder, mostInFlight } = standIn.report().counts;
      assert(outOfOrder > 0 && mostInFlight > 3, `${outOfOrder} out of order, ${mostInFlight} in flight`);
    }
  });

  test("reads may start before they are submitted", async (folder) => {
    const [path, tensors] = await model(folder);
    for (const early of ["0", "100"]) {
      using _ = standIn.set({ FST_SIM_3FS_EARLY: early });
      await assertLoads(path, tensors);
    }
  });

  test("a positive ioDepth, which would block the last reads forever, is rejected", async (folder) => {
    const [path, tensors] = await model(folder);
    await assertRejects(
      () => fastsafeOpen(path, { usrbio: { ioDepth: 4 } }),
      RangeError,
      "usrbio.ioDepth must be a whole number from -4096 to 0, got 4",
    );
    await assertLoads(path, tensors, { usrbio: { ioDepth: -3 } });
  });

  test("each lane has its own ring, and the next load reuses rings", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const specs = Array.from({ length: 40 }, (_, index): TensorSpec => {
      return { name: `t${index}`, dtype: "F16", shape: [40_000 + index] };
    });
    const tensors = await writeFile(path, specs);
    await using opened = await fastsafeOpen(path, {
      source: "3fs",
      lazy: true,
      maxThreads: 3,
      blockBytes: 4096,
    });
    for (let round = 0; round < 3; round++) {
      await Promise.all(tensors.slice(0, 10).map(({ name }) => opened.getTensor(name)));
      for (const tensor of tensors.slice(10)) assertTensor(await opened.getTensor(tensor.name), tensor);
    }
    await opened.close();
    const { rings } = standIn.report().counts;
    assert(rings >= 2 && rings <= 30, `${rings} rings`); // ten loads at once, of up to three lanes each
  });

  test("a short read at the end of the file is a truncation error with the file's end", async (folder) => {
    const [path, tensors] = await model(folder);
    const { size } = await Deno.stat(path);
    await using opened = await fastsafeOpen(path, { source: "3fs", lazy: true });
    await Deno.truncate(path, size - 10);
    const error = await assertRejects(() => opened.getTensor("half"), ReadError);
    assertEquals([error.errno, error.path], [0, path]);
    assertEquals(error.offset + error.actual, size - 10);
    assertEquals(error.offset + error.expected, size, "the last tensor ends with the file");
    assertStringIncludes(error.message, "was it truncated?");
    assertEquals(tensors[2]!.name, "half");
  });

  test("a short read in the middle of a file is continued", async (folder) => {
    const [path, tensors] = await model(folder);
    for (const spec of ["read:1:1000", "read:2:1,read:3:1,read:4:99999", "read:*:70001"]) {
      using _ = standIn.fail(spec);
      await assertLoads(path, tensors, { maxThreads: 2 });
    }
  });

  test("a short read in the middle of an element is continued", async (folder) => {
    const [path] = await model(folder);
    await using plain = await fastsafeOpen(path, { source: "file", dtype: "F64" });
    const expected = (await plain.getTensor("large")).bytes;
    for (const spec of ["read:1:1001", "read:*:70003"]) {
      using _ = standIn.fail(spec);
      await using opened = await fastsafeOpen(path, { source: "3fs", dtype: "F64" });
      assertEquals((await opened.getTensor("large")).bytes, expected);
    }
  });

  test("the smallest buffer is accepted, and a smaller one rejected", async (folder) => {
    const [path, tensors] = await model(folder);
    await assertRejects(
      () => fastsafeOpen(path, { usrbio: { bufferBytes: 4096 } }),
      RangeError,
      "bufferBytes",
    );
    for (const maxThreads of [1, 2, 16]) {
      const options = { maxThreads, usrbio: { bufferBytes: 2 ** 20 } };
      await assertLoads(path, tensors, options);
      await using opened = await fastsafeOpen(path, { ...options, source: "3fs", dtype: "F64" });
      assertEquals((await opened.getTensor("large")).byteLength, 5_600_000);
      await opened.whenLoaded();
      assert(opened.stats().threads <= 8, "128 KiB are the least that a lane can have");
    }
  });

  test("invalid options are rejected", async (folder) => {
    const [path] = await model(folder);
    for (
      const usrbio of [
        { entries: 0 },
        { entries: 1.5 },
        { entries: 4097 },
        { numa: -2 },
        { timeoutSeconds: -1 },
        { timeoutSeconds: NaN },
        { bufferBytes: 2 ** 40 },
      ]
    ) {
      await assertRejects(
        () => fastsafeOpen(path, { usrbio }),
        RangeError,
        `usrbio.${Object.keys(usrbio)[0]}`,
      );
    }
    for (const usrbio of [{ entries: "64" }, { mountPoint: "relative" }, { mountPoint: 5 }]) {
      await assertRejects(() => fastsafeOpen(path, { usrbio: usrbio as object }), TypeError, "usrbio.");
    }
    await assertRejects(
      () => fastsafeOpen(path, { usrbio: { entry: 5 } as object }),
      TypeError,
      'usrbio has no option "entry"',
    );
    for (const source of ["hdfs", "", null]) {
      await assertRejects(
        () => fastsafeOpen(path, { source: source as "3fs" }),
        TypeError,
        'source must be "3fs"',
      );
    }
  });

  test("slices, casts, names and lazy loads read through 3FS", async (folder) => {
    const [path, tensors] = await model(folder);
    await using opened = await fastsafeOpen(path, { source: "3fs", lazy: true, names: ["large", "half"] });
    assertEquals(opened.keys(), ["large", "half"]);
    const slice = await opened.getSlice("large", [10, 600, 7], [500, 510]);
    const rows = Array.from({ length: 85 }, (_, row) => {
      const at = ((10 + 7 * row) * 1000 + 500) * 4;
      return tensors[0]!.bytes.subarray(at, at + 40);
    });
    assertEquals(slice.bytes, new Uint8Array(rows.flatMap((row) => [...row])));
    while (opened.stats().path === null) await new Promise((resolve) => setTimeout(resolve, 1));
    assertEquals(opened.stats().path, "3fs");
  });

  test("ranks read their own files through 3FS, and receive the others' tensors", async (folder) => {
    const files: Record<number, string[]> = {};
    const tensors: Written[] = [];
    for (const rank of [0, 1]) {
      files[rank] = [`${folder}/${rank}.safetensors`];
      tensors.push(
        ...await writeFile(files[rank][0]!, [{ name: `t${rank}`, dtype: "F32", shape: [6, 1000] }]),
      );
    }
    await onRanks(2, async (group) => {
      await using opened = await fastsafeOpen(files, { group, source: "3fs" });
      assertTensor(await opened.getTensor("t0"), tensors[0]!);
      const part = await opened.getSharded("t1", 0);
      assertEquals(part.bytes, tensors[1]!.bytes.subarray(group.rank * 12_000, (group.rank + 1) * 12_000));
      await opened.whenLoaded();
      assertEquals(opened.stats().path, "3fs");
    });
    assertEquals(standIn.report().counts.bytes, 48_000, "each file is read once");
  });
});
