/**
 * Loading from storage with latency: a C program with 256 requests in flight, one with 16, and this loader, in turns.
 *
 * The storage is a FUSE file system of this benchmark, which answers each read after a fixed time, any number at once.
 * It is mounted for each run anew, in a mount namespace of that run: it ends with the run, however that ends.
 */
import { parseArguments, UsageError } from "../src/cli/arguments.ts";
import { formatBytes, formatCount } from "../src/cli/text.ts";
import { runCommand, writeReport } from "./command.ts";
import { delaysOf, inTurns } from "./delays.ts";
import { contenders } from "./latency/contenders.ts";
import { BYTES_UNIT, LatencyFileSystem } from "./latency/file_system.ts";
import { evaluate, formatResults, type Result, verdict } from "./latency/report.ts";
import { describeMachine } from "./side_by_side/report.ts";
import { TOUCH } from "./side_by_side/sample.ts";
import { Tools } from "./side_by_side/tools.ts";
import { tempFolder } from "./temp_folder.ts";

const USAGE = `Usage: deno task bench:latency [options]

Loads 4 shards from a file system that answers each read after a fixed time: with the probe (256 requests in flight, by
io_uring and by threads), a reader with 16 requests, and this loader, in turns; prints a table for each delay. Needs
/dev/fuse and the right to mount (root, or user namespaces). The figures of a delay only count if the probe is at least
3 times as fast as 16 requests.

  --delays LIST  milliseconds from a read to its answer (default 40,200)
  --bytes N      bytes of the tensors, a multiple of 64 MiB (default 4GiB; with --quick 512MiB)
  --request N    bytes of a request of the C programs, a multiple of 4 KiB (default 2MiB)
  --turns N      turns (default 5; with --quick 2)
  --quick        small and short: to see that it works, not to measure
  --out FILE     write the results as JSON
  --help         print this`;

async function main(argv: readonly string[]): Promise<void> {
  const args = parseArguments(argv, {
    delays: "text",
    bytes: "text",
    request: "text",
    turns: "text",
    quick: "flag",
    out: "text",
  });
  if (args.flag("help")) return console.log(USAGE);
  if (args.inputs.length > 0) throw new UsageError(`The files are made, got "${args.inputs[0]}"`);
  const quick = args.flag("quick");
  const turns = args.count("turns") ?? (quick ? 2 : 5);
  const delays = delaysOf(args.text("delays") ?? "40,200");
  const bytes = multiple("bytes", args.bytes("bytes") ?? (quick ? 2 ** 29 : 2 ** 32), BYTES_UNIT);
  const request = multiple("request", args.bytes("request") ?? 2 ** 21, 4096);

  const work = tempFolder();
  const tools = await Tools.build(work);
  const fs = await LatencyFileSystem.build(work, bytes);
  await fs.run(0, "true", []).catch((error) => {
    throw new Error(`This benchmark shows nothing here: ${error.message}`, { cause: error });
  });
  const all = await contenders(fs, request);
  if (!await fs.allowsRing()) console.log("io_uring is not allowed here: the probe uses threads only");
  Deno.env.set(TOUCH, tools.touchCommand(Math.ceil(1.25 * bytes)));
  console.log(
    `${formatBytes(bytes)} in ${formatCount(fs.files.length, "file")}, requests of ${formatBytes(request)}, ${
      formatCount(turns, "turn")
    }; ratios are medians of the turns (least–most)`,
  );
  const results: Record<number, Result[]> = {};
  for (const delay of delays) {
    const those = results[delay] = evaluate(
      await inTurns(all, turns, (contender) => contender.run(delay)),
      bytes,
    );
    console.log(`\n${delay} MS\n${formatResults(those)}\n${verdict(those)}`);
  }
  await writeReport(args.text("out"), {
    made: new Date().toISOString(),
    machine: await describeMachine(),
    bytes,
    request,
    turns,
    results,
  });
}

function multiple(name: string, value: number, of: number): number {
  if (value > 0 && value % of === 0) return value;
  throw new UsageError(`--${name} must be a multiple of ${of} bytes, got ${value}`);
}

await runCommand(USAGE, main);
