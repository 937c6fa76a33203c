/**
 * Comparison of opening with `JSON.parse`: 163 shards with 91,991 tensors, in turns, every run in a separate process;
 * then a header of a million tensors, and hostile headers of 99 MB, with their time and memory.
 *
 *     deno run -A bench/open_vs_json.ts [--turns N] [--out FILE]
 */
import { parseArguments } from "../src/cli/arguments.ts";
import { formatBytes, formatTable } from "../src/cli/text.ts";
import { expertShards, HOSTILE, millionTensors, writeSparse } from "./headers.ts";
import type { Opening } from "./open_vs_json/open.ts";
import { median } from "./side_by_side/report.ts";
import { output } from "./side_by_side/tools.ts";
import { tempFolder } from "./temp_folder.ts";

/** Repetitions in a process: the first one is the time of a program that opens one model. */
const TIMES = 5;

const args = parseArguments(Deno.args, { turns: "text", out: "text" });
const turns = args.count("turns") ?? 5;
const folder = tempFolder();

await Deno.mkdir(`${folder}/shards`);
let shard = 0, headerBytes = 0;
for (const file of expertShards()) {
  headerBytes += file.head.byteLength;
  await writeSparse(`${folder}/shards/${String(++shard).padStart(5, "0")}.safetensors`, file);
}
const opened: Opening[] = [], parsed: number[][] = [];
for (let turn = 0; turn < turns; turn++) {
  opened.push(await child("open.ts", TIMES, `${folder}/shards`));
  parsed.push(await child("parse.ts", TIMES, `${folder}/shards`));
}
const first = (all: readonly (readonly number[])[]) => median(all.map(([seconds]) => seconds!));
const again = (all: readonly (readonly number[])[]) => median(all.flatMap((seconds) => seconds.slice(1)));
const runs = opened.map((opening) => opening.seconds);
const shards = {
  headerBytes,
  outcome: opened[0]!.outcome,
  open: { first: first(runs), again: again(runs) },
  parse: { first: first(parsed), again: again(parsed) },
  ratio: { first: first(runs) / first(parsed), again: again(runs) / again(parsed) },
  peak: Math.max(...opened.map(({ peak }) => peak)),
};
console.log(`${shard} shards, ${shards.outcome}, ${formatBytes(headerBytes)} of headers, ${turns} turns`);
console.log(formatTable([
  ["", "first time", "again"],
  ["JSON.parse", milliseconds(shards.parse.first), milliseconds(shards.parse.again)],
  ["fastsafeOpen", milliseconds(shards.open.first), milliseconds(shards.open.again)],
  ["ratio", shards.ratio.first.toFixed(2), shards.ratio.again.toFixed(2)],
], [1, 2]));
console.log(`peak memory ${formatBytes(shards.peak)}\n`);

const single: Record<string, Opening> = {};
const rows = [["header", "size", "time", "peak memory", "outcome"]];
for (const [name, make] of Object.entries({ "a million tensors": millionTensors, ...HOSTILE })) {
  const path = `${folder}/single.safetensors`;
  const file = make();
  await writeSparse(path, file);
  const opening: Opening = await child("open.ts", 1, path);
  single[name] = opening;
  const { seconds, peak, outcome } = opening;
  rows.push([name, formatBytes(file.head.byteLength), milliseconds(seconds[0]!), formatBytes(peak), outcome]);
}
console.log(formatTable(rows, [1, 2, 3]));

const out = args.text("out");
if (out !== undefined) {
  await Deno.writeTextFile(out, `${JSON.stringify({ turns, shards, single }, null, 2)}\n`);
}

async function child<T>(script: string, times: number, path: string): Promise<T> {
  const file = new URL(`./open_vs_json/${script}`, import.meta.url).pathname;
  return JSON.parse(await output(Deno.execPath(), ["run", "-A", file, String(times), path]));
}

function milliseconds(seconds: number): string {
  return `${(seconds * 1000).toFixed(0)} ms`;
}
