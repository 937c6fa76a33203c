/**
 * A contender: this package broadcasts every tensor of a model to every rank, after all have been read. Arguments:
 * files. Rank 0 prints a {@linkcode RankSample}.
 */
import { fastsafeOpen, type Tensor } from "../../mod.ts";
import { MpiGroup } from "../../src/ranks/mod.ts";
import { peakMemory, touchMemory } from "../side_by_side/sample.ts";
import type { RankSample } from "./sample.ts";

await using group = await MpiGroup.create();
await using model = await fastsafeOpen(Deno.args, { group });
await model.whenLoaded();
const before = peakMemory() - model.stats().bytes;
if (group.rank === 0) touchMemory();
await group.barrier();

const held: Tensor[] = [];
const start = performance.now();
for await (const [, tensor] of model) held.push(tensor);
const seconds = (performance.now() - start) / 1000;

const bytes = held.reduce((sum, { byteLength }) => sum + byteLength, 0);
// A rank has one copy of its own files, and its tensors are views of it.
const beyond = peakMemory() - before - bytes;
const all = await group.allGather({ seconds, beyond }) as unknown as { seconds: number; beyond: number }[];
if (group.rank === 0) {
  const sample: RankSample = {
    seconds: Math.max(...all.map((one) => one.seconds)),
    beyondTensors: Math.max(...all.map((one) => one.beyond)),
  };
  console.log(JSON.stringify(sample));
}
