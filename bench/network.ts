/**
 * Loading from a server on the loopback: a C program with libcurl, this loader, and a source of one's own that uses fetch,
 * in turns; as it is, and with latency added to each request.
 */
import { findCurl } from "../ffi/net.ts";
import { openLibrary } from "../ffi/library.ts";
import { parseArguments, UsageError } from "../src/cli/arguments.ts";
import { formatBytes, formatCount } from "../src/cli/text.ts";
import { basename } from "../src/base/paths.ts";
import { runCommand, writeReport } from "./command.ts";
import { delaysOf, inTurns } from "./delays.ts";
import { type Contender, evaluate, formatResults, type Result } from "./network/report.ts";
import { type NetworkServer, NetworkTools } from "./network/server.ts";
import { prepareData } from "./side_by_side/data.ts";
import { describeMachine } from "./side_by_side/report.ts";
import { type Sample, TOUCH } from "./side_by_side/sample.ts";
import { output, Tools } from "./side_by_side/tools.ts";
import { tempFolder } from "./temp_folder.ts";

const USAGE = `Usage: deno task bench:network [options]

Loads 4 shards from an HTTP server on the loopback to the CPU: by a C program with libcurl, by this loader, and by a
source of one's own that reads ranges by fetch, in turns; prints a table for each delay.

  --delays LIST      milliseconds that each request waits for its answer (default 0,50)
  --bytes N          bytes of the tensors (default 1GiB; with --quick 64MiB)
  --connections N    connections of the C program (default 16, as many as this loader has)
  --turns N          turns (default 5; with --quick 2)
  --quick            small and short: to see that it works, not to measure
  --out FILE         write the results as JSON
  --help             print this`;

/** A contender that can run. */
interface Runner extends Contender {
  run(server: NetworkServer): Promise<Sample>;
}

async function main(argv: readonly string[]): Promise<void> {
  const args = parseArguments(argv, {
    delays: "text",
    bytes: "text",
    connections: "text",
    turns: "text",
    quick: "flag",
    out: "text",
  });
  if (args.flag("help")) return console.log(USAGE);
  if (args.inputs.length > 0) throw new UsageError(`The files are made, got "${args.inputs[0]}"`);
  const quick = args.flag("quick");
  const turns = args.count("turns") ?? (quick ? 2 : 5);
  const delays = delaysOf(args.text("delays") ?? "0,50");
  const bytes = args.bytes("bytes") ?? (quick ? 2 ** 26 : 2 ** 30);
  const connections = args.count("connections") ?? 16;

  const library = await libcurl();
  const work = tempFolder();
  const tools = await NetworkTools.build(work);
  Deno.env.set(TOUCH, (await Tools.build(work)).touchCommand(Math.ceil(1.25 * bytes)));
  const data = await prepareData(`${work}/data`, bytes, false);
  const files = await Promise.all(data.shards.map(async (path) => {
    return { name: basename(path), size: (await Deno.stat(path)).size };
  }));
  const all = runners(tools, library, files, connections);
  console.log(
    `${formatBytes(data.bytes)} in ${formatCount(files.length, "file")}, ${
      formatCount(connections, "connection")
    }, ${formatCount(turns, "turn")}; ratios are medians of the turns (least–most)`,
  );
  const results: Record<number, Result[]> = {};
  for (const delay of delays) {
    await using server = await tools.serve(`${work}/data`, delay);
    results[delay] = evaluate(await inTurns(all, turns, (contender) => contender.run(server)), data.bytes);
    console.log(`\n${delay} MS OF EACH REQUEST\n${formatResults(results[delay])}`);
  }
  await writeReport(args.text("out"), {
    made: new Date().toISOString(),
    machine: await describeMachine(),
    bytes: data.bytes,
    connections,
    turns,
    results,
  });
}

/** The path of libcurl. */
async function libcurl(): Promise<string> {
  const library = await openLibrary();
  if (!library.shim) throw new Error(`There is no native library: ${library.reason}`);
  const curl = await findCurl(library.shim);
  if (curl.path === null) throw new Error(`libcurl is not available: ${curl.reason}`);
  return curl.path.replace(/ \(.*$/, "");
}

function runners(
  { probe }: NetworkTools,
  library: string,
  files: readonly { readonly name: string; readonly size: number }[],
  connections: number,
): Runner[] {
  const inC = (threads: number, rangeBytes: number): Runner => ({
    name: `C, ${formatCount(threads, "thread")}, ${formatBytes(rangeBytes)}`,
    role: "probe",
    async run(server) {
      const named = files.flatMap(({ name, size }) => [server.url(name), String(size)]);
      const flags = ["-t", String(threads), "-c", String(connections), "-b", String(rangeBytes)];
      return { seconds: Number(await output(probe, [...flags, library, ...named])) };
    },
  });
  const inDeno = (name: string, role: Contender["role"], module: string): Runner => ({
    name,
    role,
    async run(server) {
      const program = new URL(module, import.meta.url).pathname;
      const urls = files.map(({ name }) => server.url(name));
      return JSON.parse(await output(Deno.execPath(), ["run", "-A", program, "{}", ...urls]));
    },
  });
  return [
    inC(2, 8 * 2 ** 20),
    inC(4, 8 * 2 ** 20),
    inC(4, 4 * 2 ** 20),
    inDeno("this loader", "this", "./side_by_side/this_loader.ts"),
    inDeno("a source of one's own, by fetch", "own source", "./network/own_source.ts"),
  ];
}

await runCommand(USAGE, main);
