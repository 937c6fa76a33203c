/**
 * Failures of reads from 3FS: the load fails with a clear error, nothing leaks, the next load succeeds.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { DeviceError, fastsafeOpen, type OpenOptions, ReadError } from "../../mod.ts";
import { assertTensor, type TensorSpec, writeFile, type Written } from "../support/models.ts";
import { use3fs, usrbioSuite } from "./support.ts";

const machine = await use3fs();

const SPECS: TensorSpec[] = [
  { name: "a", dtype: "F32", shape: [600, 1000] },
  { name: "b", dtype: "BF16", shape: [500, 1001] },
];

/** Small buffers, so that a file needs many requests. */
const SMALL = { bufferBytes: 2 ** 20 };

/** Expects a load to fail; every tensor rejects with the returned error. */
async function failureOf(path: string, options: OpenOptions = {}): Promise<ReadError> {
  const usrbio = { ...SMALL, ...options.usrbio };
  await using model = await fastsafeOpen(path, { source: "3fs", ...options, usrbio });
  const error = await assertRejects(() => model.whenLoaded(), ReadError);
  const results = await Promise.allSettled(model.keys().map((name) => model.getTensor(name)));
  for (const result of results) {
    if (result.status === "rejected") assert(result.reason instanceof ReadError, String(result.reason));
  }
  assert(results.some(({ status }) => status === "rejected"));
  return error;
}

async function assertLoads(path: string, tensors: readonly Written[]): Promise<void> {
  await using model = await fastsafeOpen(path, { source: "3fs", usrbio: SMALL });
  for (const tensor of tensors) assertTensor(await model.getTensor(tensor.name), tensor);
}

usrbioSuite("Faults of 3FS", machine, (test, standIn) => {
  const model = async (folder: string): Promise<[string, Written[]]> => {
    const path = `${folder}/model.safetensors`;
    return [path, await writeFile(path, SPECS, { misalignment: 5 })];
  };

  test("an I/O error of any read fails the load, and the next one works", async (folder) => {
    const [path, tensors] = await model(folder);
    for (const options of [{}, { dtype: "F64" }] as const) {
      standIn.reset();
      {
        await using whole = await fastsafeOpen(path, { source: "3fs", usrbio: SMALL, ...options });
        await whole.whenLoaded();
      }
      const { reads } = standIn.report().counts;
      assert(reads >= 6, `${reads} reads`);
      for (let index = 1; index <= reads; index++) {
        using _ = standIn.fail(`read:${index}:-5`);
        const error = await failureOf(path, options);
        assertEquals([error.path, error.errno], [path, 5]);
        assertStringIncludes(error.message, "i/o error (EIO)");
        assert(error.expected > 0 && error.offset > 0, `${error.expected} at ${error.offset}`);
      }
    }
    await assertLoads(path, tensors);
  });

  test("a read that ends early at any index is a truncation", async (folder) => {
    const [path, tensors] = await model(folder);
    for (let index = 1; index <= 6; index++) {
      using _ = standIn.fail(`read:${index}:100,read:${index + 1}+:0`);
      const error = await failureOf(path, { maxThreads: 1 });
      assertStringIncludes(error.message, "was it truncated?");
      assert(error.errno === 0 && error.actual < error.expected);
    }
    await assertLoads(path, tensors);
  });

  test("a file that is truncated while it is read is a truncation", async (folder) => {
    const [path] = await model(folder);
    using held = standIn.hold();
    await using opened = await fastsafeOpen(path, { source: "3fs", maxThreads: 1, blockBytes: 65_536 });
    await Deno.truncate(path, 500_000);
    held[Symbol.dispose]();
    const error = await assertRejects(() => opened.whenLoaded(), ReadError);
    assertStringIncludes(error.message, "was it truncated?");
    assert(error.actual < error.expected);
  });

  test("the failure of a read ahead names its own file", async (folder) => {
    const paths = [`${folder}/a.safetensors`, `${folder}/b.safetensors`] as const;
    await writeFile(paths[0], [{ name: "a", dtype: "U8", shape: [1_500_000] }]);
    const b = await writeFile(paths[1], [{ name: "b", dtype: "U8", shape: [4_000_000] }]);
    const { size } = await Deno.stat(paths[1]);
    const options = { source: "3fs", maxThreads: 1, usrbio: { bufferBytes: 2 ** 22, entries: 16 } } as const;
    for (let seed = 1; seed <= 12; seed++) { // for several orders of completion
      using _ = standIn.set({ FST_SIM_3FS_SEED: String(seed), FST_SIM_3FS_DELAY_US: "3000" });
      {
        using held = standIn.hold();
        await using opened = await fastsafeOpen([...paths], options);
        await Deno.truncate(paths[1], 2_000_000);
        held[Symbol.dispose]();
        const error = await assertRejects(() => opened.whenLoaded(), ReadError, "was it truncated?");
        assertEquals([error.path, error.errno], [paths[1], 0]);
        assert(error.offset + error.expected > 2_000_000 && error.offset < size, `at ${error.offset}`);
        await assertRejects(() => opened.getTensor("b"), ReadError, paths[1]);
      }
      await writeFile(paths[1], b);
    }
    await using opened = await fastsafeOpen([...paths], options);
    assertTensor(await opened.getTensor("b"), b[0]!);
  });

  test("a read that never completes fails the load after the timeout", async (folder) => {
    const [path, tensors] = await model(folder);
    for (const index of [1, 2, 5]) {
      using _ = standIn.fail(`lost:${index}:0`);
      const error = await failureOf(path, { usrbio: { timeoutSeconds: 0.2 } });
      assertEquals(error.errno, 110);
      assertStringIncludes(error.message, "ETIMEDOUT");
    }
    assert(standIn.report().counts.abandoned >= 3);
    await assertLoads(path, tensors);
  }, { abandoned: true });

  test("slow reads do not time out as long as some complete", async (folder) => {
    const [path, tensors] = await model(folder);
    using _ = standIn.set({ FST_SIM_3FS_LATENCY_US: "200000" });
    await using opened = await fastsafeOpen(path, {
      source: "3fs",
      maxThreads: 1,
      usrbio: { timeoutSeconds: 0.9, entries: 1 },
    });
    assertTensor(await opened.getTensor("b"), tensors[1]!);
  });

  test("a signal ends a load whose reads hang", async (folder) => {
    const [path, tensors] = await model(folder);
    using _ = standIn.fail("lost:*:0");
    const stop = new AbortController();
    await using opened = await fastsafeOpen(path, { source: "3fs", signal: stop.signal });
    const pending = opened.getTensor("a");
    stop.abort(new Error("that is enough"));
    await assertRejects(() => pending, Error, "that is enough");
    await opened.close();
    standIn.fail("")[Symbol.dispose]();
    await assertLoads(path, tensors);
  }, { abandoned: true });

  test(
    "a mount that goes away in mid-load fails the load, and leaves the process able to go on",
    async (folder) => {
      const [path] = await model(folder);
      { // other lanes may have read meanwhile
        using _ = standIn.fail("gone:3:0");
        await using opened = await fastsafeOpen(path, {
          source: "3fs",
          usrbio: { ...SMALL, timeoutSeconds: 0.2 },
        });
        const error = await assertRejects(() => opened.whenLoaded(), ReadError);
        assertEquals(error.errno, 110);
        await assertRejects(() => fastsafeOpen(path, { source: "3fs" }), DeviceError, "it is not on 3FS");
        await using other = await fastsafeOpen(path); // without a required source
        await other.whenLoaded();
        assertEquals(other.stats().path, "buffered");
        await opened.close();
      }
      const second = `${folder}/second.safetensors`;
      const tensors = await writeFile(second, SPECS);
      await assertLoads(second, tensors);
      const { live, violations } = standIn.report();
      assert(live.fds <= 1, `${live.fds} registered`);
      assert(Object.keys(violations.kinds).every((kind) => kind === "double-register"));
      if (violations.total > 0) standIn.reset();
    },
    { abandoned: true, fds: 1 },
  );

  test("every error of 3FS rejects the load with its code", async (folder) => {
    const [path, tensors] = await model(folder);
    const options = { source: "3fs", maxThreads: 2 } as const;
    for (
      const [spec, reason] of [
        ["iovcreate:1:-12", "hf3fs_iovcreate failed: not enough memory (ENOMEM)"],
        ["iorcreate4:1:-5", "hf3fs_iorcreate4 failed: i/o error (EIO)"],
        ["reg_fd:1:13", "permission denied (EACCES)"],
        ["is_hf3fs:1:0", "it is not on 3FS"],
      ] as const
    ) {
      using _ = standIn.fail(spec);
      await assertRejects(() => fastsafeOpen(path, options), DeviceError, reason);
    }
    for (
      const [spec, errno] of [
        ["prep_io:2:-22", 22],
        ["prep_io:3:-9", 9],
        ["submit_ios:1:-5", 5],
        ["submit_ios:2:-5", 5],
        ["wait_for_ios:1:-5", 5],
        ["wait_for_ios:3:-14", 14],
        ["read:2:-3007", 3007], // 3FS has its own error numbers
        ["iovcreate:2:-12", 12], // the second lane's
        ["iorcreate4:2:-5", 5],
      ] as const
    ) {
      using _ = standIn.set({ FST_SIM_3FS_FAIL: spec, FST_SIM_3FS_LATENCY_US: "3000" });
      const error = await failureOf(path, { maxThreads: 2, blockBytes: 131_072 });
      assertEquals(error.errno, errno, spec);
    }
    await assertLoads(path, tensors);
  }, { abandoned: true });

  test("every fallback releases all resources", async (folder) => {
    const [path, tensors] = await model(folder);
    for (const spec of ["iovcreate:*:-12", "iorcreate4:*:-5", "reg_fd:*:13", "reg_fd:1:13"]) {
      using _ = standIn.fail(spec);
      await using opened = await fastsafeOpen([path], { blockBytes: 65_536 });
      for (const tensor of tensors) assertTensor(await opened.getTensor(tensor.name), tensor);
      await opened.whenLoaded();
      const { path: way, notes } = opened.stats();
      assertEquals([way, notes.length], ["buffered", 1], spec);
      assertStringIncludes(notes[0]!, "Files on 3FS use ordinary reads: ");
    }
  });

  test("a file that cannot be registered is read with ordinary reads, and the others through 3FS", async (folder) => {
    const paths = await Promise.all([1, 2, 3, 4].map(async (index) => {
      const path = `${folder}/${index}.safetensors`;
      await writeFile(path, [{ name: `t${index}`, dtype: "U8", shape: [300_000 + index] }]);
      return path;
    }));
    using _ = standIn.fail("reg_fd:2:24");
    await using opened = await fastsafeOpen(paths);
    for await (const [name, tensor] of opened) assertEquals(tensor.shape, [300_000 + Number(name[1])]);
    const { path, notes } = opened.stats();
    assertEquals([path, notes.length], ["3fs", 1]);
  });
});
