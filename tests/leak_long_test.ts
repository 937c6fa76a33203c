/**
 * A thousand loads in a row, successful and failing ones: memory, descriptors and threads do not grow.
 */
import { compiler } from "./support/compiler.ts";
import { assertLeavesNothing } from "./support/leaks.ts";
import { tempFolder, type TensorSpec, writeShards } from "./support/models.ts";
import { suite } from "./support/skip.ts";

const LOADS = 1000;

/** Elements of each of four tensors: a leak would be 400 MB. */
const ELEMENTS = 50_000;

function leakTest(engine: "native" | "portable"): void {
  Deno.test(`${LOADS} loads in a row do not leak [${engine}]`, async () => {
    await using folder = await tempFolder();
    const { path } = folder;
    const specs = (shard: number) =>
      [1, 2].map((index): TensorSpec => ({
        name: `${shard}.${index}`,
        dtype: "BF16",
        shape: [ELEMENTS],
      }));
    const { paths } = await writeShards(path, [specs(0), specs(1)]);
    await Deno.writeFile(`${path}/truncated`, (await Deno.readFile(paths[0]!)).slice(0, -1));
    await Deno.copyFile(paths[0]!, `${path}/changing`);
    await assertLeavesNothing("repeat.ts", engine, path, LOADS);
  });
}

const { missing } = await compiler();

suite(`${LOADS} loads on the native engine`, "native", missing, () => leakTest("native"));
leakTest("portable");
