/**
 * Files that change after their header was read: a load returns the original bytes or an error, never other bytes.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { type OpenOptions, ReadError, SafeTensorsError } from "../../mod.ts";
import { assertTensor, type TensorSpec, writeFile, type Written } from "../support/models.ts";
import type { DefineTest } from "./context.ts";
import { fastsafeOpen } from "./api_in_use.ts";

const SPECS: TensorSpec[] = [
  { name: "first", dtype: "U8", shape: [5000] },
  { name: "second", dtype: "BF16", shape: [300, 1000] },
  { name: "third", dtype: "I64", shape: [77] },
];

/** Waits until the modification time differs: file systems count in ticks of some milliseconds. */
function tick(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 20));
}

/** Opens a lazy model, changes the file, and expects every tensor to fail or to have its original bytes. */
async function change(
  folder: string,
  act: (path: string) => Promise<void>,
  options: OpenOptions<"cpu"> = {},
): Promise<{ errors: ReadError[]; tensors: Written[]; path: string }> {
  const path = `${folder}/model.safetensors`;
  const tensors = await writeFile(path, SPECS);
  const errors: ReadError[] = [];
  await using model = await fastsafeOpen(path, { lazy: true, blockBytes: 65_536, ...options });
  await tick();
  await act(path);
  for (const round of [1, 2]) {
    await Promise.all(tensors.map(async (tensor) => {
      try {
        assertTensor(await model.getTensor(tensor.name), tensor);
      } catch (error) {
        assert(error instanceof ReadError, String(error));
        assertEquals(error.path, path, `round ${round}`);
        errors.push(error);
      }
    }));
  }
  return { errors, tensors, path };
}

export function changedFileTests(test: DefineTest): void {
  test("tensors of a file that is truncated after its header was read are rejected", async (folder) => {
    for (const length of [0, 100, 5000, 600_000]) {
      const { errors, path } = await change(folder, (path) => Deno.truncate(path, length));
      assertEquals(errors.length, 6);
      for (const error of errors) {
        assert(error.expected > error.actual, `${error.expected} expected, ${error.actual} found`);
        assert(error.message.includes(path), error.message);
      }
    }
  });

  test("tensors of a file that is overwritten after its header was read are rejected", async (folder) => {
    const { errors } = await change(folder, async (path) => {
      using file = await Deno.open(path, { write: true });
      await file.seek(300, Deno.SeekMode.Start);
      await file.write(new Uint8Array(100));
    });
    assertEquals(errors.length, 6);
    assert(
      errors.every((error) => error.message.includes("changed after its header was read")),
      errors[0]!.message,
    );
  });

  test("tensors of a file that grows after its header was read are rejected", async (folder) => {
    const { errors } = await change(folder, (path) => Deno.writeTextFile(path, "more", { append: true }));
    assertEquals(errors.length, 6);
  });

  test("tensors of a file that is replaced after its header was read have their old bytes, or are rejected", async (folder) => {
    await change(folder, async (path) => {
      await writeFile(`${folder}/other`, SPECS.map((spec) => ({ ...spec, name: spec.name.toUpperCase() })));
      await Deno.rename(`${folder}/other`, path);
    });
    // The same size and time, as after a copy that keeps times: only the file's number differs.
    await change(folder, async (path) => {
      const { atime, mtime } = await Deno.stat(path);
      const bytes = await Deno.readFile(path);
      await Deno.writeFile(`${folder}/other`, bytes.fill(7, 1000));
      await Deno.utime(`${folder}/other`, atime!, mtime!);
      await Deno.rename(`${folder}/other`, path);
    });
  });

  test("tensors of a file that is removed after its header was read have their old bytes, or are rejected", async (folder) => {
    await change(folder, (path) => Deno.remove(path));
  });

  test("a file that changes during a load fails it, and the next load succeeds", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const tensors = await writeFile(path, [...SPECS, { name: "large", dtype: "U8", shape: [8_000_000] }]);
    await tick();
    {
      await using model = await fastsafeOpen(path, { blockBytes: 4096, maxThreads: 1 });
      await Deno.writeTextFile(path, "more", { append: true });
      for (const tensor of tensors) {
        try {
          assertTensor(await model.getTensor(tensor.name), tensor);
        } catch (error) {
          assert(error instanceof ReadError, String(error));
        }
      }
    }
    const error = await assertRejects(() => fastsafeOpen(path), SafeTensorsError);
    assertEquals(error.code, "MetadataIncompleteBuffer");
    await writeFile(path, SPECS);
    await using model = await fastsafeOpen(path);
    assertTensor(await model.getTensor("third"), tensors[2]!);
  });

  test("getSlice() rejects a changed file", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    await using model = await fastsafeOpen(path, { lazy: true });
    await tick();
    await Deno.truncate(path, 10_000);
    await assertRejects(() => model.getSlice("second", [0, 3], [0, 1000, 7]), ReadError);
    await assertRejects(() => model.getSlice("third", [0, 3]), ReadError);
    await assertRejects(() => Array.fromAsync(model), ReadError);
  });
}
