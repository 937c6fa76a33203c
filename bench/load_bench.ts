/**
 * Loading 256 MiB in 4 shards that the page cache holds, beside `Deno.readFile`.
 *
 * Figures to quote come from `deno task bench:side-by-side`, which takes larger files and a fresh process a run.
 */
import { fastsafeOpen } from "../mod.ts";
import { ParallelLoader } from "../src/compat/mod.ts";
import { writeSyntheticModel } from "../src/cli/synthetic_model.ts";
import { tempFolder } from "./temp_folder.ts";

const { indexPath, paths } = await writeSyntheticModel(tempFolder(), { bytes: 2 ** 28 });
const options = { group: "load", n: 10, warmup: 2 } as const;

Deno.bench({
  ...options,
  name: "fastsafeOpen",
  baseline: true,
  async fn() {
    await using model = await fastsafeOpen(indexPath);
    await model.whenLoaded();
  },
});

Deno.bench({
  ...options,
  name: "ParallelLoader, at most 64 MiB in memory",
  async fn() {
    const loader = new ParallelLoader(null, indexPath, { maxBytesInFlight: 2 ** 26 });
    for await (const [_name] of loader.iterateWeights());
  },
});

Deno.bench({
  ...options,
  name: "Deno.readFile",
  async fn() {
    await Promise.all(paths.map((path) => Deno.readFile(path)));
  },
});
