/**
 * Reads that fail, on the build of the shim that can be made to (native/faults.h). After each failure nothing is left
 * open or running, and the next load works.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  fastsafeOpen,
  type LoadStats,
  type OpenOptions,
  ReadError,
  type SafeTensorsModel,
  UseAfterCloseError,
} from "../mod.ts";
import { useFaultEngine } from "./support/engine.ts";
import { decode, encode } from "./support/floats.ts";
import {
  assertBytes,
  assertTensor,
  noise,
  tempFolder,
  type TensorSpec,
  writeFile,
  type Written,
} from "./support/models.ts";
import { bytesRead, openDescriptors } from "./support/process.ts";
import { suite } from "./support/skip.ts";

const faults = await useFaultEngine();

/** Blocks of the body, and the reads that they take when nothing fails: the first read is that of the header. */
const BLOCK = 65_536;
const SMALL: TensorSpec[] = [
  { name: "a", dtype: "U8", shape: [100] },
  { name: "b", dtype: "BF16", shape: [300, 500] },
  { name: "c", dtype: "F32", shape: [70_000] },
];

function test(name: string, body: (folder: string) => Promise<void>): void {
  Deno.test(name, async () => {
    await using folder = await tempFolder();
    await body(folder.path);
    assertEquals(openDescriptors(folder.path), 0, "descriptors are left open");
    const path = `${folder.path}/next.safetensors`;
    const tensors = await writeFile(path, SMALL);
    await using model = await fastsafeOpen(path, { maxThreads: 16, blockBytes: 4096 });
    for (const tensor of tensors) assertTensor(await model.getTensor(tensor.name), tensor);
    await model.whenLoaded();
    assertEquals(model.stats().threads, 16, "lanes were not given back");
  });
}

/** Loads all with faults set; every tensor must be right. */
async function loadWith(
  spec: string,
  path: string,
  tensors: readonly Written[],
  options: OpenOptions = {},
): Promise<LoadStats> {
  using _ = faults.set(spec);
  await using model = await fastsafeOpen(path, { blockBytes: BLOCK, ...options });
  for (const tensor of tensors) assertTensor(await model.getTensor(tensor.name), tensor);
  await model.whenLoaded();
  return model.stats();
}

/** Loads with faults set that must end it; every tensor that is given out must be right. */
async function failWith(
  spec: string,
  path: string,
  tensors: readonly Written[],
  options: OpenOptions = {},
): Promise<ReadError> {
  using _ = faults.set(spec);
  let model: SafeTensorsModel;
  try {
    model = await fastsafeOpen(path, { blockBytes: BLOCK, ...options });
  } catch (error) {
    assert(error instanceof ReadError, String(error));
    assertEquals(error.path, path);
    return error;
  }
  await using _model = model;
  const error = await assertRejects(() => model.whenLoaded(), ReadError);
  let failed = 0;
  for (const tensor of tensors) {
    try {
      assertTensor(await model.getTensor(tensor.name), tensor);
    } catch (reason) {
      assertEquals(reason, error);
      failed++;
    }
  }
  assert(failed > 0, "the load has failed, and every tensor is there");
  assertEquals(await assertRejects(() => Array.fromAsync(model)), error);
  assertEquals(error.path, path);
  assert(error.message.includes(path) && error.message.includes('(tensor "'), error.message);
  return error;
}

async function writeSmall(folder: string, misalignment = 0): Promise<[path: string, tensors: Written[]]> {
  const path = `${folder}/model.safetensors`;
  return [path, await writeFile(path, SMALL, { misalignment })];
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

suite("Reads that fail", "native", faults.missing, () => {
  test("an interrupted system call is made again", async (folder) => {
    const [path, tensors] = await writeSmall(folder);
    const EINTR = 4;
    await loadWith(`open:1:${EINTR},open:2:${EINTR}`, path, tensors);
    for (let nth = 1; nth <= 10; nth++) {
      await loadWith(`pread:${nth}:${EINTR}`, path, tensors, { maxThreads: 1 });
    }
    await loadWith(
      `cachestat:*:uncached,preaddirect:1:${EINTR},preaddirect:2:${EINTR},pread:2:4`,
      path,
      tensors,
    );
  });

  test("a short read goes on where it ended", async (folder) => {
    for (const misalignment of [0, 1]) {
      const [path, tensors] = await writeSmall(folder, misalignment);
      for (let nth = 1; nth <= 10; nth++) {
        for (const length of [1, 4095, 4096, 50_001]) {
          await loadWith(`pread:${nth}:short=${length}`, path, tensors, { maxThreads: 1 });
          await loadWith(`cachestat:*:uncached,preaddirect:${nth}:short=${length}`, path, tensors, {
            maxThreads: 1,
            blockBytes: 2 * BLOCK,
          });
        }
      }
      await loadWith("pread:*:short=777", path, tensors);
      await loadWith("cachestat:*:uncached,preaddirect:*:short=4096", path, tensors, {
        blockBytes: 2 * BLOCK,
      });
      await loadWith("cachestat:*:uncached,preaddirect:*:short=9999,pread:*:short=99", path, tensors);
    }
  });

  test("a failing read fails the load with file, offset and what the system said", async (folder) => {
    const [path, tensors] = await writeSmall(folder);
    const EIO = 5;
    const opening = await failWith(`pread:1:${EIO}`, path, tensors);
    assertEquals([opening.errno, opening.path], [EIO, path]);
    for (let nth = 2; nth <= 10; nth++) {
      for (const maxThreads of [1, 4]) {
        const error = await failWith(`pread:${nth}:${EIO}`, path, tensors, { maxThreads });
        assertEquals(error.errno, EIO);
        assert(error.expected > 0 && error.expected <= BLOCK, `${error.expected} bytes expected`);
        assert(error.message.includes("EIO"), error.message);
        if (maxThreads === 1) {
          // One lane takes one block after another; blocks are cut at multiples of their size in the file.
          const dataStart = Deno.statSync(path).size -
            tensors.reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
          assertEquals(error.offset, nth === 2 ? dataStart : (nth - 2) * BLOCK);
        }
      }
    }
    const direct = await failWith(`cachestat:*:uncached,preaddirect:2:${EIO}`, path, tensors, {
      blockBytes: 2 * BLOCK,
    });
    assertEquals(direct.errno, EIO);
  });

  test("a file that ends too early fails the load", async (folder) => {
    const [path, tensors] = await writeSmall(folder);
    const head = await failWith("pread:1:eof", path, tensors);
    assert(head.message.includes("truncated") && head.actual === 0 && head.expected > 0, head.message);
    for (let nth = 2; nth <= 10; nth++) {
      const error = await failWith(`pread:${nth}:eof`, path, tensors, { maxThreads: 2 });
      assertEquals([error.errno, error.actual], [0, 0]);
      assert(error.message.includes("truncated"), error.message);
      const part = await failWith(`pread:${nth}:short=10,pread:${nth + 1}:eof`, path, tensors, {
        maxThreads: 1,
      });
      assertEquals([part.actual, part.expected > 10], [10, true]);
    }
    const direct = await failWith("cachestat:*:uncached,preaddirect:*:eof", path, tensors, {
      blockBytes: 2 * BLOCK,
    });
    assertEquals([direct.errno, direct.actual], [0, 0]);
  });

  test("a file that changed meanwhile fails the load", async (folder) => {
    const [path, tensors] = await writeSmall(folder);
    for (const nth of [2, 3, 7]) {
      const error = await failWith(`fstat:${nth}:changed`, path, tensors);
      assert(error.message.includes("changed after its header was read"), error.message);
    }
    const error = await failWith("fstat:4:5", path, tensors);
    assertEquals(error.errno, 5);
    const opening = await failWith("fstat:1:5", path, tensors);
    assertEquals(opening.errno, 5);
  });

  test("a refused file is named with what the system said", async (folder) => {
    const [path, tensors] = await writeSmall(folder);
    for (const [errno, name] of [[13, "EACCES"], [24, "EMFILE"], [2, "ENOENT"]] as const) {
      const error = await failWith(`open:1:${errno}`, path, tensors);
      assertEquals(error.errno, errno);
      assert(error.message.includes(name), error.message);
    }
  });

  test("what is cached is read through the page cache, what is not past it", async (folder) => {
    const [path, tensors] = await writeSmall(folder);
    const options = { blockBytes: 2 * BLOCK };
    assertEquals((await loadWith("cachestat:*:cached", path, tensors, options)).path, "buffered");
    const direct = await loadWith("cachestat:*:uncached", path, tensors, options);
    if (direct.notes.length === 0) assertEquals(direct.path, "direct");
    else assert(direct.notes.some((note) => note.includes("refused")), direct.notes.join());
  });

  test("without cachestat, files are read through the page cache, and a note says so", async (folder) => {
    const [path, tensors] = await writeSmall(folder);
    const ENOSYS = 38;
    const { path: way, notes } = await loadWith(`cachestat:*:${ENOSYS}`, path, tensors);
    assertEquals(way, "buffered");
    assert(notes.some((note) => note.includes("cannot tell what is cached")), notes.join());
  });

  test("where direct reads are refused, files are read through the page cache, and a note says so", async (folder) => {
    for (const misalignment of [0, 3]) {
      const [path, tensors] = await writeSmall(folder, misalignment);
      for (const refusal of ["opendirect:*:22", "preaddirect:*:22", "preaddirect:*:95"]) {
        const { path: way, notes } = await loadWith(`cachestat:*:uncached,${refusal}`, path, tensors, {
          blockBytes: 2 * BLOCK,
        });
        assertEquals(way, "buffered", refusal);
        assert(notes.some((note) => note.includes("refused")), `${refusal}: ${notes.join()}`);
      }
    }
  });

  test("direct reads refused in mid-load lose nothing", async (folder) => {
    const [path, tensors] = await writeSmall(folder);
    for (let nth = 1; nth < 5; nth++) {
      await loadWith(`cachestat:*:uncached,preaddirect:${nth}:22`, path, tensors, { blockBytes: 2 * BLOCK });
    }
  });

  test("every way of a byte gives the same bytes", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const numbers = Array.from({ length: 150_000 }, (_, index) => (index % 509 - 254) / 8);
    const source = encode(numbers, "BF16");
    const wide = encode(decode(source, "BF16"), "F64");
    const rows = encode(
      numbers.filter((_, index) => index % 500 >= 10 && Math.floor(index / 500) % 3 === 1),
      "F32",
    );
    const words = new Uint32Array(noise(512 * 4096, 4).buffer);
    const columns = [[0, 2], [1000, 1], [3, 200]].map(([start, step]) => {
      const kept = words.filter((_, index) =>
        index % 1024 >= start! && (index % 1024 - start!) % step! === 0
      );
      return { slice: [start!, null, step!] as const, bytes: new Uint8Array(kept.buffer) };
    });
    for (const misalignment of [0, 1, 2]) {
      const [bytes] = await writeFile(path, [
        { name: "bytes", dtype: "U8", shape: [1_000_003] },
        { name: "floats", dtype: "BF16", shape: [300, 500], bytes: source },
        { name: "columns", dtype: "F32", shape: [512, 1024], bytes: new Uint8Array(words.buffer) },
      ], { misalignment });
      for (const cached of ["cached", "uncached"]) {
        for (
          const options of [{}, { blockBytes: 65_536, stagingBytes: 65_536, maxThreads: 3 }, {
            maxThreads: 1,
          }]
        ) {
          using _ = faults.set(`cachestat:*:${cached}`);
          await using cast = await fastsafeOpen(path, {
            dtype: "F64",
            names: ["bytes", "floats"],
            ...options,
          });
          assertTensor(await cast.getTensor("bytes"), bytes!);
          assertBytes((await cast.getTensor("floats")).bytes, wide, `floats, ${cached}`);
          await using lazy = await fastsafeOpen(path, { lazy: true, ...options });
          for (const { slice, bytes } of columns) {
            assertBytes(
              (await lazy.getSlice("columns", null, slice)).bytes,
              bytes,
              `columns ${slice}, ${cached}`,
            );
          }
          await using half = await fastsafeOpen(path, { lazy: true, dtype: "F32", ...options });
          const some = await half.getSlice("floats", [1, 300, 3], [10, 500]);
          assertBytes(some.bytes, rows, `rows of floats, ${cached}`);
        }
      }
    }
  });

  test("a signal ends a load that waits for storage", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const tensors = await writeFile(
      path,
      Array.from({ length: 100 }, (_, index) => {
        return { name: `t${index}`, dtype: "U8", shape: [BLOCK] } as const;
      }),
    );
    for (const cached of ["cached", "uncached"]) {
      using _ = faults.set(`cachestat:*:${cached},pread:*:delay=20000,preaddirect:*:delay=20000`);
      const controller = new AbortController();
      await using model = await fastsafeOpen(path, {
        signal: controller.signal,
        maxThreads: 2,
        blockBytes: BLOCK,
      });
      const first = await model.getTensor("t0");
      const reason = new Error("no more");
      const began = performance.now();
      controller.abort(reason);
      assertEquals(await assertRejects(() => model.getTensor("t99")), reason);
      assertEquals(await assertRejects(() => model.whenLoaded()), reason);
      assert(performance.now() - began < 1000, "the load went on");
      assertTensor(first, tensors[0]!);
      let landed = 0;
      for (const tensor of tensors) {
        try {
          assertTensor(await model.getTensor(tensor.name), tensor);
          landed++;
        } catch (error) {
          assertEquals(error, reason);
        }
      }
      assert(landed >= 1 && landed < 50, `${landed} tensors landed`);
    }
  });

  test("close() ends a load that waits for storage, and no read comes after it", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [{ name: "x", dtype: "U8", shape: [100 * BLOCK] }]);
    for (const lazy of [false, true]) {
      using _ = faults.set("pread:*:delay=10000,preaddirect:*:delay=10000");
      const model = await fastsafeOpen(path, { lazy, maxThreads: 2, blockBytes: BLOCK });
      const waiting = assertRejects(() => model.getTensor("x"), UseAfterCloseError);
      await pause(30);
      const began = performance.now();
      await model.close();
      assert(performance.now() - began < 1000, "the load went on");
      assertEquals(openDescriptors(folder), 0);
      await waiting;
    }
  });

  test("a transferred buffer in mid-load damages nothing", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [
      { name: "first", dtype: "U8", shape: [100] },
      { name: "rest", dtype: "U8", shape: [40 * BLOCK] },
    ]);
    for (const ways of ["cached", "uncached"]) {
      using _ = faults.set(`cachestat:*:${ways},pread:*:delay=3000,preaddirect:*:delay=3000`);
      await using model = await fastsafeOpen(path, { maxThreads: 2, blockBytes: BLOCK });
      const first = await model.getTensor("first");
      first.bytes.buffer.transfer(0);
      const others = Array.from({ length: 40 }, () => new Uint8Array(BLOCK).fill(0xaa)); // where the memory could be now
      await assertRejects(() => model.getTensor("rest"), TypeError, "transferred");
      for (const other of others) assert(other.every((byte) => byte === 0xaa), "foreign memory was written");
    }
  });

  test("onProgress tells of a slow load as it goes on", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(
      path,
      Array.from({ length: 40 }, (_, index) => {
        return { name: `t${index}`, dtype: "U8", shape: [BLOCK] } as const;
      }),
    );
    using _ = faults.set("pread:*:delay=10000,preaddirect:*:delay=10000");
    const told: number[] = [];
    await using model = await fastsafeOpen(path, {
      maxThreads: 1,
      blockBytes: BLOCK,
      onProgress: ({ bytes }) => void told.push(bytes),
    });
    const order: string[] = [];
    let early = 0;
    for await (const [name] of model) {
      order.push(name);
      if (model.stats().bytes < 40 * BLOCK) early++;
    }
    assertEquals(order.length, 40);
    assert(early > 20, `${early} tensors were given out before the end`);
    assert(told.length >= 4 && told.length < 40, `told ${told.length} times`);
    assertEquals([told.toSorted((a, b) => a - b), told.at(-1)], [told, 40 * BLOCK]);
  });

  test("an onProgress that throws stops the lanes", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const tensors = await writeFile(
      path,
      Array.from(
        { length: 100 },
        (_, index): TensorSpec => ({ name: `t${index}`, dtype: "U8", shape: [BLOCK] }),
      ),
    );
    using _ = faults.set("pread:*:delay=10000,preaddirect:*:delay=10000");
    const thrown = new Error("of the user");
    const onProgress = () => {
      throw thrown;
    };
    await using model = await fastsafeOpen(path, {
      lazy: true,
      maxThreads: 4,
      blockBytes: BLOCK,
      onProgress,
    });
    const results = await Promise.allSettled(tensors.map(({ name }) => model.getTensor(name)));
    const before = bytesRead();
    const landed = results.filter((result) => result.status === "fulfilled");
    assert(landed.length > 0 && landed.length < 50, `${landed.length} tensors landed`);
    for (const { value } of landed) assertTensor(value, tensors.find(({ name }) => name === value.name)!);
    for (const result of results) if (result.status === "rejected") assertEquals(result.reason, thrown);
    await pause(100);
    assert(bytesRead() - before < 8 * BLOCK, "lanes went on reading");
  });

  test("many loads at once leave room for Deno's own file functions", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [{ name: "x", dtype: "U8", shape: [64 * 4096] }]);
    using _ = faults.set("pread:*:delay=100000");
    const models = await Promise.all(Array.from({ length: 8 }, () => {
      return fastsafeOpen(path, { maxThreads: 16, blockBytes: 4096 });
    }));
    const began = performance.now();
    await Deno.stat(path);
    assert(performance.now() - began < 500, "Deno.stat waited for lanes");
    const controller = new AbortController();
    const last = await fastsafeOpen(path, { signal: controller.signal, blockBytes: 4096 });
    controller.abort(new Error("no room"));
    await assertRejects(() => last.getTensor("x"), Error, "no room");
    assert(performance.now() - began < 1500, "the aborted load waited for a lane");
    await Promise.all([...models, last].map((model) => model.close()));
  });
});
