/**
 * All tensors of files in batches, with bounded memory.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ReadError, SafeTensorsError } from "../../mod.ts";
import { encode } from "../support/floats.ts";
import { assertTensor, type TensorSpec, writeFile, writeShards } from "../support/models.ts";
import { bytesRead, openDescriptors } from "../support/process.ts";
import type { DefineTest } from "./context.ts";
import { ParallelLoader } from "./api_in_use.ts";
import { FIRST } from "./two_files.ts";

export function parallelLoaderTests(test: DefineTest): void {
  test("ParallelLoader yields every tensor once, in file order", async (folder) => {
    const specs = (shard: number) =>
      Array.from({ length: 10 }, (_, index): TensorSpec => {
        return { name: `${shard}.${index}`, dtype: "BF16", shape: [index * 100, 3] };
      });
    const { indexPath, paths, tensors } = await writeShards(folder, [specs(0), specs(1), specs(2)]);
    for (const maxBytesInFlight of [1, 3000, 2 ** 30]) {
      for (const files of [indexPath, [...paths]]) {
        const loader = new ParallelLoader(null, files, { maxBytesInFlight });
        for (let round = 0; round < 2; round++) {
          const seen = [];
          for await (const [name, tensor] of loader.iterateWeights()) {
            seen.push(name);
            assertTensor(tensor, tensors.find((written) => written.name === name)!);
          }
          assertEquals(seen.toSorted(), tensors.map(({ name }) => name).toSorted());
        }
      }
    }
    assertEquals(openDescriptors(folder), 0);
  });

  test("ParallelLoader yields only the tensors that the option names selects", async (folder) => {
    const { indexPath } = await writeShards(folder, [FIRST, [{ name: "w.weight", dtype: "U8", shape: [3] }]]);
    const loader = new ParallelLoader(null, indexPath, { names: ["*.weight", FIRST[0]!.name] });
    const names = await Array.fromAsync(loader, ([name]) => name);
    assertEquals(names.toSorted(), ["w.weight", FIRST[0]!.name].toSorted());
  });

  test("ParallelLoader casts", async (folder) => {
    const path = `${folder}/a.safetensors`;
    await writeFile(path, [{ name: "x", dtype: "BF16", shape: [2], bytes: encode([1, -3], "BF16") }]);
    for await (const [, tensor] of new ParallelLoader(null, path, { dtype: "F32" }).iterateWeights()) {
      assertEquals(tensor.data, new Float32Array([1, -3]));
    }
  });

  test("ParallelLoader bounds the bytes in flight", async (folder) => {
    const MEGABYTE = 2 ** 20;
    const path = `${folder}/a.safetensors`;
    await writeFile(
      path,
      Array.from({ length: 24 }, (_, index) => {
        return { name: `t${index}`, dtype: "U8", shape: [MEGABYTE] } as const;
      }),
    );
    const before = bytesRead();
    let given = 0;
    for await (
      const [, tensor] of new ParallelLoader(null, path, { maxBytesInFlight: 4 * MEGABYTE }).iterateWeights()
    ) {
      given += tensor.byteLength;
      if (given % (6 * MEGABYTE) !== 0) continue;
      await new Promise((resolve) => setTimeout(resolve, 30)); // it reads ahead up to its limit
      const ahead = bytesRead() - before - given;
      assert(ahead < 4.5 * MEGABYTE, `${ahead} bytes were read ahead`);
    }
    assertEquals(given, 24 * MEGABYTE);
  });

  test("ParallelLoader stops reading at the end of the iteration", async (folder) => {
    const specs = Array.from({ length: 40 }, (_, index): TensorSpec => {
      return { name: `t${index}`, dtype: "U8", shape: [200_000] };
    });
    await writeFile(`${folder}/a.safetensors`, specs);
    const loader = new ParallelLoader(null, [`${folder}/a.safetensors`], {
      maxBytesInFlight: 800_000,
      blockBytes: 4096,
    });
    let count = 0;
    for await (const _ of loader.iterateWeights()) if (++count === 3) break;
    assertEquals(openDescriptors(folder), 0);
    const iteration = loader.iterateWeights();
    await iteration.next();
    await iteration.return();
    assertEquals([(await iteration.next()).done, openDescriptors(folder)], [true, 0]);
    await assertRejects(
      async () => {
        for await (const _ of loader.iterateWeights()) throw new Error("of the user");
      },
      Error,
      "of the user",
    );
    assertEquals(openDescriptors(folder), 0);
  });

  test("ParallelLoader rethrows errors, and can be used again", async (folder) => {
    const path = `${folder}/a.safetensors`;
    const specs = Array.from({ length: 10 }, (_, index): TensorSpec => {
      return { name: `t${index}`, dtype: "U8", shape: [100_000] };
    });
    const tensors = await writeFile(path, specs);
    const loader = new ParallelLoader(null, path, { maxBytesInFlight: 200_000 });
    const seen: string[] = [];
    const error = await assertRejects(async () => {
      for await (const [name, tensor] of loader.iterateWeights()) {
        assertTensor(tensor, tensors.find((written) => written.name === name)!);
        seen.push(name);
        await Deno.truncate(path, 300_000);
      }
    }, ReadError);
    assertEquals(error.path, path);
    assert(seen.length >= 1 && seen.length < 10);
    await assertRejects(() => Array.fromAsync(loader.iterateWeights()), SafeTensorsError);
    await Deno.remove(path);
    await assertRejects(() => Array.fromAsync(loader.iterateWeights()), ReadError, "ENOENT");
    await writeFile(path, specs);
    assertEquals((await Array.fromAsync(loader.iterateWeights())).length, 10);
  });

  test("ParallelLoader obeys a signal and rejects invalid options", async (folder) => {
    const path = `${folder}/a.safetensors`;
    await writeFile(path, FIRST);
    const controller = new AbortController();
    const loader = new ParallelLoader(null, path, { signal: controller.signal, maxBytesInFlight: 1 });
    const reason = new Error("stop");
    const error = await assertRejects(async () => {
      for await (const _ of loader.iterateWeights()) controller.abort(reason);
    });
    assertEquals(error, reason);
    for (const maxBytesInFlight of [0, -1, 1.5, NaN, Infinity]) {
      assertThrows(
        () => new ParallelLoader(null, path, { maxBytesInFlight }),
        RangeError,
        "maxBytesInFlight",
      );
    }
    assertThrows(() => new ParallelLoader(null, path, { maxThreads: 0 }), RangeError, "maxThreads");
  });
}
