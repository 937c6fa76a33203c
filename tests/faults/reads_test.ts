/**
 * Reads that fail, are short or are interrupted, and their effect on a load.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { fastsafeOpen, type HostTensor, ReadError } from "../../mod.ts";
import type { NativeFile } from "../../src/files/native/native_file.ts";
import { selectEngine } from "../../src/load/native/select.ts";
import { assertTensor, writeFile } from "../support/models.ts";
import { suite } from "../support/skip.ts";
import { BLOCK, failWith, faults, loadWith, test, writeSmall } from "./support.ts";

suite("Reads that fail", "native", faults.missing, () => {
  test("an interrupted system call is repeated", async (folder) => {
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

  test("a short read is continued where it ended", async (folder) => {
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

  test("a failing read fails the load with the file, the offset and the system's error", async (folder) => {
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
          // One lane reads the small tensor first, then one block after another; blocks end at multiples of their
          // size in the file.
          const dataStart = Deno.statSync(path).size -
            tensors.reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
          const small = 100;
          const offset = nth === 2 ? dataStart : nth === 3 ? dataStart + small : (nth - 3) * BLOCK;
          assertEquals(error.offset, offset);
        }
      }
    }
    const direct = await failWith(`cachestat:*:uncached,preaddirect:2:${EIO}`, path, tensors, {
      blockBytes: 2 * BLOCK,
    });
    assertEquals(direct.errno, EIO);
  });

  test("a small tensor of a lazy model that cannot be read is rejected, and the next request reads it", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [small, other] = await writeFile(path, [
      { name: "small", dtype: "BF16", shape: [2048] },
      { name: "other", dtype: "BF16", shape: [2048] },
    ]);
    const offset = Deno.statSync(path).size - 8192;
    const at = `4096 bytes expected at offset ${offset}`;
    const cases: readonly (readonly [string, Partial<ReadError>, string])[] = [
      ["pread:1:5", { offset, expected: 4096, actual: 0, errno: 5 }, `${at}: `],
      ["pread:1:eof", { offset, expected: 4096, actual: 0, errno: 0 }, `${at}, 0 found: was it truncated?`],
      [
        "pread:1:short=100,pread:2:eof",
        { offset, expected: 4096, actual: 100, errno: 0 },
        `${at}, 100 found: was it truncated?`,
      ],
      ["fstat:1:changed", { offset, errno: 0 }, "the file was changed after its header was read"],
    ];
    for (const dtype of [undefined, "F32"] as const) {
      await using model = await fastsafeOpen(path, { lazy: true, ...dtype && { dtype } });
      const own = async () => (await model.getTensor("small", { dtype: "BF16" })).bytes;
      for (const [spec, properties, reason] of cases) {
        {
          using _ = faults.set(spec);
          const error = await assertRejects(() => model.getTensor("small"), ReadError);
          assertEquals(
            error.message.startsWith(`Cannot read "${path}" (tensor "small"): ${reason}`),
            true,
            error.message,
          );
          assertEquals(error.path, path);
          for (const [key, value] of Object.entries(properties)) {
            assertEquals(error[key as keyof ReadError], value, `${spec}: ${key}`);
          }
        }
        assertEquals(await own(), small!.bytes);
      }
      for (const spec of ["pread:1:4", "pread:*:short=999"]) {
        using _ = faults.set(spec);
        assertEquals(await own(), small!.bytes, spec);
        assertEquals((await model.getTensor("other", { dtype: "BF16" })).bytes, other!.bytes, spec);
      }
    }
  });

  test("an error of one of many tensors that are read together leaves the others", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const tensors = await writeFile(
      path,
      Array.from(
        { length: 300 },
        (_, index) => ({ name: `t${index}`, dtype: "BF16", shape: [500] } as const),
      ),
    );
    const offset = Deno.statSync(path).size - 300_000;
    // Byte 0 is of t0; byte 123,456 of t123; byte 8,500 of t8, which nobody asks for.
    const cases = [["pread:1:5", "t0"], ["pread:1:short=123456,pread:2:5", "t123"], [
      "pread:1:short=8500,pread:2:5",
      null,
    ]] as const;
    for (const [spec, bad] of cases) {
      await using model = await fastsafeOpen(path, { lazy: true, maxThreads: 1 });
      const asked = tensors.filter(({ name }) => name !== "t8");
      using _ = faults.set(spec);
      const results = await Promise.allSettled(asked.map(({ name }) => model.getTensor(name)));
      for (const [index, result] of results.entries()) {
        const tensor = asked[index]!;
        if (tensor.name !== bad) {
          assertEquals([tensor.name, result.status], [tensor.name, "fulfilled"]);
          assertTensor((result as PromiseFulfilledResult<HostTensor>).value, tensor);
          continue;
        }
        const { reason } = result as PromiseRejectedResult;
        assert(reason instanceof ReadError, String(reason));
        assertEquals([reason.errno, reason.offset], [5, offset]);
        assert(reason.message.includes(`(tensor "${bad}"): `), reason.message);
      }
    }
  });

  test("a small tensor in the page cache is read without a call that can wait, in turns of the event loop", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [small] = await writeFile(path, [{ name: "small", dtype: "BF16", shape: [2048] }]);
    const { source } = await selectEngine();
    const file = await source.open(path) as NativeFile;
    const isSupported = file.readCached(0, new Uint8Array(8));
    await file.close();
    if (!isSupported) return console.warn("this file system cannot read without waiting (RWF_NOWAIT)");
    await using model = await fastsafeOpen(path, { lazy: true });
    {
      using _ = faults.set("pread:*:5,preadnow:*:cached");
      assertTensor(await model.getTensor("small"), small!);
      Deno.utimeSync(path, 1, 1); // the calls that can wait have the error of a file that was changed
      await assertRejects(() => model.getTensor("small"), ReadError, "EIO");
      using _next = faults.set("preadnow:*:cached");
      await assertRejects(() => model.getTensor("small"), ReadError, "was changed after its header was read");
    }
    await using again = await fastsafeOpen(path, { lazy: true });
    let turns = 0;
    let next = setImmediate(function count() {
      turns++;
      next = setImmediate(count);
    });
    for (let index = 0; index < 1000; index++) await again.getTensor("small");
    clearImmediate(next);
    assert(turns >= 8, `${turns} turns`);
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

  test("a file that changes during a load fails it", async (folder) => {
    const [path, tensors] = await writeSmall(folder);
    const changed = await failWith("fstat:2:changed", path, tensors); // the first is the one that opens the file
    assert(changed.message.includes("changed after its header was read"), changed.message);
    const error = await failWith("fstat:2:5", path, tensors);
    assertEquals(error.errno, 5);
    const opening = await failWith("fstat:1:5", path, tensors);
    assertEquals(opening.errno, 5);
  });

  test("the error about a refused file has its name and the system's error", async (folder) => {
    const [path, tensors] = await writeSmall(folder);
    for (const [errno, name] of [[13, "EACCES"], [24, "EMFILE"], [2, "ENOENT"]] as const) {
      const error = await failWith(`open:1:${errno}`, path, tensors);
      assertEquals(error.errno, errno);
      assert(error.message.includes(name), error.message);
    }
  });
});
