/**
 * Common parts of the tests of failing reads: the library built with faults (tests/native/added/added.h). After each
 * failure no file is open, no call is running, and the next load works.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  fastsafeOpen,
  type LoadStats,
  type OpenOptions,
  ReadError,
  type SafeTensorsModel,
} from "../../mod.ts";
import { useFaultEngine } from "../support/engine.ts";
import { assertTensor, tempFolder, type TensorSpec, writeFile, type Written } from "../support/models.ts";
import { openDescriptors } from "../support/process.ts";

/** Makes system calls of the library fail. */
export const faults = await useFaultEngine();

/** Blocks of the body, and the reads that they take without failures: the first read is that of the header. */
export const BLOCK = 65_536;

/** Tensors of a file that is read with a few calls. */
const SMALL: TensorSpec[] = [
  { name: "a", dtype: "U8", shape: [100] },
  { name: "b", dtype: "BF16", shape: [300, 500] },
  { name: "c", dtype: "F32", shape: [70_000] },
];

/** Defines a test that must leave no file open and no call running. */
export function test(name: string, body: (folder: string) => Promise<void>): void {
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
export async function loadWith(
  spec: string,
  path: string,
  tensors: readonly Written[],
  options: OpenOptions<"cpu"> = {},
): Promise<LoadStats> {
  using _ = faults.set(spec);
  await using model = await fastsafeOpen(path, { blockBytes: BLOCK, ...options });
  for (const tensor of tensors) assertTensor(await model.getTensor(tensor.name), tensor);
  await model.whenLoaded();
  return model.stats();
}

/** Loads with faults set that must end it; every returned tensor must be correct. */
export async function failWith(
  spec: string,
  path: string,
  tensors: readonly Written[],
  options: OpenOptions<"cpu"> = {},
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
  const failed = new Map<string, ReadError>();
  for (const { name, ...tensor } of tensors) {
    const result = await model.getTensor(name).catch((reason) => reason);
    if (result instanceof ReadError) failed.set(name, result);
    else assertTensor(result, { name, ...tensor });
  }
  // The bytes of this tensor could not be read: it is not read again. Others are, and may fail too.
  const [, culprit] = error.message.match(/\(tensor "(\w)"\)/)!;
  assertEquals(failed.get(culprit!), error);
  for (const reason of failed.values()) assertEquals(reason.path, path);
  assertEquals(await assertRejects(() => Array.fromAsync(model)), error);
  assertEquals(error.path, path);
  assert(error.message.includes(path) && error.message.includes('(tensor "'), error.message);
  return error;
}

/** Writes a file of a few tensors. */
export async function writeSmall(
  folder: string,
  misalignment = 0,
): Promise<[path: string, tensors: Written[]]> {
  const path = `${folder}/model.safetensors`;
  return [path, await writeFile(path, SMALL, { misalignment })];
}

/** Waits. */
export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
