/**
 * Reads through the page cache or past it: the choice, refusals, and the same bytes with each kind.
 */
import { assert, assertEquals } from "@std/assert";
import { fastsafeOpen } from "../../mod.ts";
import { decode, encode } from "../support/floats.ts";
import { assertBytes, assertTensor, noise, writeFile } from "../support/models.ts";
import { suite } from "../support/skip.ts";
import { BLOCK, faults, loadWith, test, writeSmall } from "./support.ts";

suite("Kinds of reads", "native", faults.missing, () => {
  test("cached bytes are read through the page cache, others past it", async (folder) => {
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
    assert(notes.some((note) => note.includes("cannot query the page cache")), notes.join());
  });

  test("if direct reads are refused, files are read through the page cache, and a note says so", async (folder) => {
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

  test("direct reads that are refused during a load lose no bytes", async (folder) => {
    const [path, tensors] = await writeSmall(folder);
    for (let nth = 1; nth < 5; nth++) {
      await loadWith(`cachestat:*:uncached,preaddirect:${nth}:22`, path, tensors, { blockBytes: 2 * BLOCK });
    }
  });

  test("every kind of read gives the same bytes", async (folder) => {
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
});
