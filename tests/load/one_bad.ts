/**
 * One broken file or tensor: only the requests for it fail.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { ReadError } from "../../mod.ts";
import { assertTensor, type TensorSpec, writeFile, type Written } from "../support/models.ts";
import type { DefineTest, EngineName } from "./context.ts";
import { fastsafeOpen, ParallelLoader, SafeTensorsFileLoader } from "./api_in_use.ts";

/** Three files; the second one is truncated in its second tensor after it was opened. */
async function writeFiles(folder: string): Promise<{ paths: string[]; tensors: Written[] }> {
  const paths = [0, 1, 2].map((index) => `${folder}/${index}.safetensors`);
  const tensors: Written[] = [];
  for (const [index, path] of paths.entries()) {
    const specs = [0, 1, 2].map((part): TensorSpec => {
      return { name: `${index}.${part}`, dtype: "U8", shape: [500_000] };
    });
    tensors.push(...await writeFile(path, specs));
  }
  return { paths, tensors };
}

const CUT = 750_000;

/** Whether a truncated file still contains a tensor. */
const isWhole = ({ name }: Written) => !name.startsWith("1.");

export function oneBadTests(test: DefineTest, engine: EngineName): void {
  test("getTensor() loads tensors of intact files while a truncated file fails", async (folder) => {
    const { paths, tensors } = await writeFiles(folder);
    await using model = await fastsafeOpen(paths, { lazy: true });
    await Deno.truncate(paths[1]!, CUT);
    const results = await Promise.allSettled(tensors.map(({ name }) => model.getTensor(name)));
    for (const [index, tensor] of tensors.entries()) {
      const result = results[index]!;
      if (isWhole(tensor)) {
        assert(result.status === "fulfilled", String((result as PromiseRejectedResult).reason));
        assertTensor(result.value, tensor);
      } else {
        assert(result.status === "rejected" && result.reason instanceof ReadError);
        assertEquals(result.reason.path, paths[1]!);
        assert(result.reason.message.includes(tensor.name) || engine !== "native", result.reason.message);
      }
    }
  });

  test("whenLoaded() rejects for a truncated file, and tensors of intact files load", async (folder) => {
    const { paths, tensors } = await writeFiles(folder);
    // The first tensor waits until the whole file is read, so that the test can truncate it before.
    await using model = await fastsafeOpen(paths, { blockBytes: 4096, maxThreads: 1 });
    await Deno.truncate(paths[1]!, CUT);
    const loaded = model.whenLoaded().catch((error) => assertEquals(error.path, paths[1]!));
    for (const tensor of tensors.toReversed()) {
      if (isWhole(tensor)) assertTensor(await model.getTensor(tensor.name), tensor);
      else await model.getTensor(tensor.name).catch((error) => assert(error instanceof ReadError));
    }
    await loaded;
  });

  test("a load with one replaced file loads the tensors of the other files", async (folder) => {
    const { paths, tensors } = await writeFiles(folder);
    await using loader = new SafeTensorsFileLoader(null);
    await loader.addFilenames({ 0: paths });
    await Deno.truncate(paths[1]!, CUT);
    await using buffer = await loader.copyFilesToDevice();
    for (const tensor of tensors) {
      if (isWhole(tensor)) assertTensor(await buffer.getTensor(tensor.name), tensor);
      else await assertRejects(() => buffer.getTensor(tensor.name), ReadError, paths[1]!);
    }
  });

  test("an iteration names the broken file", async (folder) => {
    const { paths } = await writeFiles(folder);
    await using model = await fastsafeOpen(paths, { lazy: true });
    await Deno.truncate(paths[1]!, CUT);
    const error = await assertRejects(() => Array.fromAsync(model), ReadError, paths[1]!);
    assertEquals(error.path, paths[1]!);
    await assertRejects(
      () => Array.fromAsync(new ParallelLoader(null, paths).iterateWeights()),
      Error,
      paths[1]!,
    );
  });

  test("two parallel requests for a tensor read it once", async (folder) => {
    const { paths, tensors } = await writeFiles(folder);
    await using model = await fastsafeOpen(paths, { lazy: true });
    const [first, second] = await Promise.all([model.getTensor("0.0"), model.getTensor("0.0")]);
    assertTensor(first, tensors[0]!);
    assertTensor(second, tensors[0]!);
    assertEquals([model.stats().tensors, model.stats().bytes], [1, 500_000]);
  });
}
