/**
 * Pinned staging memory that several loads reuse.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { fastsafeOpen, PinnedPool, UseAfterCloseError } from "../../mod.ts";
import { type TensorSpec, writeFile } from "../support/models.ts";
import { assertOnDevice, cudaSuite, settled, standInSuite, useCuda } from "./support.ts";

const machine = await useCuda();

const SPECS: TensorSpec[] = [{ name: "x", dtype: "F32", shape: [300, 1000] }];

cudaSuite("PinnedPool", machine, (test) => {
  test("PinnedPool serves successive and parallel loads", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [tensor] = await writeFile(path, SPECS);
    const pool = new PinnedPool();
    assertEquals(pool.byteLength, 0);
    for (let turn = 0; turn < 3; turn++) {
      await using model = await fastsafeOpen(path, { device: "cuda", pool });
      await assertOnDevice(await model.getTensor("x"), tensor!);
    }
    const kept = pool.byteLength;
    assert(kept > 0);
    await Promise.all(Array.from({ length: 4 }, async () => {
      await using model = await fastsafeOpen(path, { device: "cuda", pool, dtype: "F16" });
      using x = await model.getTensor("x");
      assertEquals(x.byteLength, 600_000);
    }));
    assert(pool.byteLength >= kept);
    await pool.close();
    assertEquals(pool.byteLength, 0);
    await pool.close();
    await assertRejects(() => fastsafeOpen(path, { device: "cuda", pool }), UseAfterCloseError, "pool");
  });

  test("PinnedPool frees memory that is returned after close()", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    const pool = new PinnedPool();
    const model = await fastsafeOpen(path, { device: "cuda", pool });
    await pool.close();
    await model.whenLoaded();
    assertEquals(pool.byteLength, 0);
    await model.close();
  });

  test("PinnedPool rejects an invalid bound", () => {
    for (const maxBytes of [-1, 1.5, NaN]) {
      assertThrows(() => new PinnedPool({ maxBytes }), RangeError, "maxBytes");
    }
  });
});

standInSuite("The memory of a PinnedPool", machine, (test, standIns) => {
  test("PinnedPool pins once for many loads, and respects its bound", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    for (const [maxBytes, kept] of [[undefined, 1], [0, 0]] as const) {
      await using pool = new PinnedPool(maxBytes === undefined ? {} : { maxBytes });
      for (let turn = 0; turn < 3; turn++) {
        await using model = await fastsafeOpen(path, { device: "cuda", pool });
        await model.whenLoaded();
        await settled(machine);
        assertEquals(standIns.report().live.registered, kept);
      }
      await settled(machine);
      assertEquals(standIns.report().live.registeredBytes, pool.byteLength);
    }
  });

  test("PinnedPool provides memory near the device", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    await using pool = new PinnedPool();
    for (const device of ["cuda:0", "cuda:1", "cuda:0", "cuda:1"] as const) {
      await using model = await fastsafeOpen(path, { device, pool });
      await model.whenLoaded();
    }
    await settled(machine);
    assertEquals(standIns.report().live.registered, 2);
  });

  test("PinnedPool reuses the memory of a failed load", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [tensor] = await writeFile(path, SPECS);
    await using pool = new PinnedPool();
    {
      using _failure = standIns.fail("stream-copy:2:1");
      await using model = await fastsafeOpen(path, { device: "cuda", pool, blockBytes: 65536 });
      await assertRejects(() => model.whenLoaded());
      await assertRejects(() => fastsafeOpen(`${folder}/missing`, { device: "cuda", pool }));
    }
    await using model = await fastsafeOpen(path, { device: "cuda", pool, blockBytes: 65536 });
    await assertOnDevice(await model.getTensor("x"), tensor!);
    await settled(machine);
    assertEquals(standIns.report().live.registered, 1);
  });
});
