/**
 * A contender: every rank reads its own part of a model, or a single process all of it. Arguments: "one" or "ranks",
 * the shard plan as JSON, files. Rank 0 prints a {@linkcode RankSample}.
 */
import { fastsafeOpen, prepare } from "../../mod.ts";
import { MpiGroup, SingleGroup } from "../../src/ranks/mod.ts";
import { peakMemory, touchMemory } from "../side_by_side/sample.ts";
import type { RankSample } from "./sample.ts";

const [mode, plan, ...files] = Deno.args;
await prepare();
await using group = mode === "one" ? new SingleGroup() : await MpiGroup.create();
const options = { group, shardPlan: JSON.parse(plan!) };
const asked = () => Number(/^rchar: (\d+)$/m.exec(Deno.readTextFileSync("/proc/self/io"))![1]);

// The bytes that opening reads, which do not belong to the share.
const atStart = asked();
await (await fastsafeOpen(files, { ...options, lazy: true })).close();
const opening = asked() - atStart;
const before = peakMemory();
if (group.rank === 0) touchMemory();
await group.barrier();

const askedBefore = asked();
const start = performance.now();
await using model = await fastsafeOpen(files, options);
await model.whenLoaded();
const seconds = (performance.now() - start) / 1000;

const { bytes } = model.stats();
const mine = { seconds, bytes, read: asked() - askedBefore - opening, beyond: peakMemory() - before - bytes };
const all = await group.allGather(mine) as unknown as (typeof mine)[];
if (group.rank === 0) {
  const sample: RankSample = {
    seconds: Math.max(...all.map((one) => one.seconds)),
    bytesPerSecond: all.reduce((sum, one) => sum + one.bytes / one.seconds, 0),
    overread: Math.max(...all.map((one) => one.read / one.bytes)),
    beyondTensors: Math.max(...all.map((one) => one.beyond)),
  };
  console.log(JSON.stringify(sample));
}
