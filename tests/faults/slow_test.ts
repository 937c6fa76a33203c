/**
 * Slow reads: how they end, and work that continues meanwhile.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { fastsafeOpen, UseAfterCloseError } from "../../mod.ts";
import { assertTensor, type TensorSpec, writeFile } from "../support/models.ts";
import { bytesRead, openDescriptors } from "../support/process.ts";
import { suite } from "../support/skip.ts";
import { BLOCK, faults, pause, test } from "./support.ts";

suite("Reads that take long", "native", faults.missing, () => {
  test("a signal ends a load that waits for storage", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const tensors = await writeFile(
      path,
      Array.from({ length: 100 }, (_, index) => {
        return { name: `t${index}`, dtype: "U8", shape: [BLOCK] } as const;
      }),
    );
    for (const cached of ["cached", "uncached"]) {
      const delay = "delay=20000";
      using _ = faults.set(
        `cachestat:*:${cached},pread:*:${delay},preaddirect:*:${delay},uringread:*:${delay}`,
      );
      const controller = new AbortController();
      await using model = await fastsafeOpen(path, {
        signal: controller.signal,
        maxThreads: 2,
        blockBytes: BLOCK,
      });
      const first = await model.getTensor("t0");
      const reason = new Error("no more");
      controller.abort(reason);
      assertEquals(await assertRejects(() => model.getTensor("t99")), reason);
      assertEquals(await assertRejects(() => model.whenLoaded()), reason);
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
      const before = bytesRead();
      await model.close();
      assertEquals(openDescriptors(folder), 0);
      await waiting;
      await pause(100);
      assert(bytesRead() - before < 8 * BLOCK, "the load went on");
    }
  });

  test("a signal and close() reject a small tensor of a lazy model that waits for storage, after its read has ended", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [{ name: "x", dtype: "U8", shape: [4096] }]);
    const reason = new Error("no more");
    for (const way of ["signal", "close"]) {
      const controller = new AbortController();
      const model = await fastsafeOpen(path, { lazy: true, signal: controller.signal });
      using _ = faults.set("pread:*:delay=50000");
      let turns = 0;
      const timer = setInterval(() => turns++, 1);
      const waiting = assertRejects(() => model.getTensor("x"));
      await pause(10);
      if (way === "signal") controller.abort(reason);
      else await model.close();
      const error = await waiting;
      clearInterval(timer);
      if (way === "signal") assertEquals(error, reason);
      else assert(error instanceof UseAfterCloseError, `${error}`);
      assert(turns >= 2, `${turns} turns of the event loop during the read`);
      await model.close();
      assertEquals(openDescriptors(folder), 0);
      assertEquals(model.stats().tensors, 0);
    }
  });

  test("a buffer that is transferred during a load damages no memory", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [
      { name: "first", dtype: "U8", shape: [2 * BLOCK] }, // a smaller one would have separate memory
      { name: "rest", dtype: "U8", shape: [40 * BLOCK] },
    ]);
    for (const ways of ["cached", "uncached"]) {
      using _ = faults.set(`cachestat:*:${ways},pread:*:delay=3000,preaddirect:*:delay=3000`);
      await using model = await fastsafeOpen(path, { maxThreads: 2, blockBytes: BLOCK });
      const first = await model.getTensor("first");
      first.bytes.buffer.transfer(0);
      const others = Array.from({ length: 40 }, () => new Uint8Array(BLOCK).fill(0xaa)); // which may use the freed memory
      await assertRejects(() => model.getTensor("rest"), TypeError, "transferred");
      for (const other of others) assert(other.every((byte) => byte === 0xaa), "foreign memory was written");
    }
  });

  test("onProgress reports a slow load while it runs", async (folder) => {
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

  test("many loads at once leave threads for Deno's own file functions", async (folder) => {
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
