/**
 * Files for load_program.ts, and what its ranks must say of them: against parts that were picked element by element.
 */
import { assertEquals } from "@std/assert";
import { fileOf, type TensorSpec, writeFile, type Written } from "../support/models.ts";
import { summary } from "./load_program.ts";
import { partOf, SPECS } from "./support.ts";

/** A tensor, and the rank that reads it. */
interface Owned extends Written {
  readonly owner: number;
}

/** Those that can be cut along their last dimension by up to four ranks. */
const FILES = SPECS.map((specs) => specs.filter(({ name }) => name !== "nibbles" && name !== "sixes"));

/** More tensors a file than one operation hands out. */
const MANY = 300;

/** Writes a model whose file `i` is read by rank `i % size`, and beside it one file with many tensors for each rank. */
export async function writeModel(
  folder: string,
  size: number,
): Promise<{ names: string[]; tensors: Owned[] }> {
  const tensors: Owned[] = [];
  const names = await writeFiles(
    folder,
    FILES,
    (tensor, file) => tensors.push({ ...tensor, owner: file % size }),
  );
  for (let rank = 0; rank < size; rank++) await writeFile(`${folder}/many${rank}`, manySpecs(rank));
  return { names, tensors };
}

function manySpecs(rank: number): TensorSpec[] {
  return Array.from({ length: MANY }, (_, index) => {
    return { name: `${rank}.${index}`, dtype: "U8", shape: [1 + index % 7] };
  });
}

function writtenMany(size: number): Written[] {
  return Array.from({ length: size }, (_, rank) => fileOf(manySpecs(rank)).tensors).flat();
}

/** Writes files; their names. */
export async function writeFiles(
  folder: string,
  specs: readonly (readonly TensorSpec[])[],
  each: (tensor: Written, file: number) => void = () => {},
): Promise<string[]> {
  for (const [file, list] of specs.entries()) {
    for (const tensor of await writeFile(`${folder}/f${file}`, list)) each(tensor, file);
  }
  return specs.map((_, file) => `f${file}`);
}

/** Checks what every rank has written to the folder. */
export async function checkSaid(folder: string, tensors: readonly Owned[], size: number): Promise<void> {
  const all = Array.from(
    { length: size },
    (_, rank) => JSON.parse(Deno.readTextFileSync(`${folder}/said.${rank}`)),
  );
  for (const [rank, said] of all.entries()) {
    assertEquals([said.rank, said.size, said.order], [rank, size, all[0].order]);
    await check(said, tensors, size);
  }
}

// deno-lint-ignore no-explicit-any
async function check(said: any, tensors: readonly Owned[], size: number): Promise<void> {
  const { rank } = said;
  const whole: Record<string, string> = {},
    parts: Record<string, string> = {},
    pushed: Record<string, string> = {};
  const keys = tensors.toSorted((a, b) => a.owner - b.owner).map(({ name }) => name);
  for (const tensor of tensors) {
    const { name, shape } = tensor;
    whole[name] = await summary(tensor);
    if (keys.indexOf(name) % size === rank) pushed[name] = whole[name];
    if (shape.length === 0) continue;
    parts[name] = await summary(partOf(tensor, shape.length - 1, rank, size));
    parts[`${name} from file`] = await summary(partOf(tensor, 0, rank, size));
  }
  assertEquals(said.keys, keys);
  assertEquals(said.whole, whole);
  assertEquals(said.parts, parts);
  assertEquals(said.pushed, pushed);
  assertEquals(said.streamed, whole);
  const many = writtenMany(size).map(async (tensor) => [tensor.name, await summary(tensor)] as const);
  assertEquals(said.many, Object.fromEntries(await Promise.all(many)));
  const own = tensors.filter(({ owner }) => owner === rank);
  assertEquals(said.files, Math.ceil((FILES.length - rank) / size));
  assertEquals(said.bytes, own.reduce((sum, { bytes }) => sum + bytes.byteLength, 0));
  assertEquals(said.again, size === 1 ? whole.matrix : "UseAfterCloseError");
  const [matrix, uneven] = [tensors[0]!, tensors[1]!];
  assertEquals(said.sliced, [
    await summary({ ...matrix, shape: [2, 8], bytes: matrix.bytes.slice(16, 48) }),
    await summary({ ...uneven, shape: [2, 3], bytes: uneven.bytes.slice(12, 36) }),
  ]);
}
