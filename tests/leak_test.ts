/**
 * A thousand loads in a row, good ones and bad ones: memory, descriptors and threads do not grow.
 */
import { assert, assertEquals } from "@std/assert";
import { buildShim } from "../ffi/build.ts";
import { runChild } from "./support/child.ts";
import { compiler } from "./support/compiler.ts";
import { tempFolder, type TensorSpec, writeShards } from "./support/models.ts";
import { suite } from "./support/skip.ts";

const LOADS = 1000;

/** Elements of each of four tensors: had the loads left them behind, it would be 400 MB. */
const ELEMENTS = 50_000;

/** How much more there may be after them: the allocator takes its time until it reuses all that it has. */
const MEBIBYTE = 2 ** 20;
const ALLOWED = {
  rss: 64 * MEBIBYTE,
  heapUsed: 2 * MEBIBYTE,
  external: MEBIBYTE,
  descriptors: 0,
  threads: 8,
};

function leakTest(engine: "native" | "portable"): void {
  Deno.test(`${LOADS} loads in a row leave nothing behind [${engine}]`, async () => {
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
    const { code, stdout, stderr } = await runChild("repeat.ts", {
      flags: ["-A", "--v8-flags=--expose-gc"],
      args: [engine, path, String(LOADS)],
      env: {
        DENO_DIR: `${path}/deno`,
        ...engine === "native" ? { FASTSAFETENSORS_LIB: await buildShim() } : {},
      },
    });
    assertEquals([code, stderr], [0, ""]);
    const { before, after } = JSON.parse(stdout);
    for (const [what, allowed] of Object.entries(ALLOWED)) {
      const grown = after[what] - before[what];
      assert(grown <= allowed, `${what} grew by ${grown}, from ${before[what]} to ${after[what]}`);
    }
  });
}

const { missing } = await compiler();

suite(`${LOADS} loads on the native engine`, "native", missing, () => leakTest("native"));
leakTest("portable");
