/**
 * The contenders and their runs: every run is a separate process, with a fresh destination.
 */
import type { OpenOptions } from "../../mod.ts";
import type { ProcessGroup } from "../../src/ranks/mod.ts";
import type { Data } from "./data.ts";
import type { Sample } from "./sample.ts";
import { output, type Tools } from "./tools.ts";

/** Whether the page cache holds the files. */
export type CacheKind = "hot" | "cold";

/** What a contender does: each task has limit probes of its own. */
export type Task = "read" | "cast" | "columns";

/** A contender. */
export interface Contender {
  /** Its name in the table. */
  readonly name: string;
  /** Whether it is a variant of the limit probe of its task: the best of them is the limit. */
  readonly isLimit: boolean;
  /** Default "read". */
  readonly task?: Task;
  /** The states of the page cache in which it runs. */
  readonly kinds: readonly CacheKind[];
  /** The files that it reads. */
  readonly files: readonly string[];
  /** The bytes that it reads of them. Default all. */
  readonly bytes?: number;
  /** Runs it once. */
  run(): Promise<Sample>;
}

const BOTH: readonly CacheKind[] = ["hot", "cold"];

/** All contenders that can run on this machine and read all bytes as they are. */
export async function contenders(tools: Tools, { shards, oneFile }: Data): Promise<Contender[]> {
  const peers: Record<string, string> = await probePython();
  const names: Record<string, string> = {
    safetensors: "safetensors load_file + clone",
    fastsafetensors: "fastsafetensors, nogds",
  };
  return [
    ...[1, 2, 4, 8].flatMap((threads) => [
      limit(tools, shards, ["hot"], [], threads),
      limit(tools, shards, ["cold"], ["-d"], threads),
      limit(tools, shards, ["cold"], ["-d", "-p"], threads),
    ]),
    thisLoader("this loader", shards),
    ...oneFile ? [thisLoader("this loader, one file of that size", [oneFile])] : [],
    {
      name: "Deno.readFile + views",
      isLimit: false,
      kinds: BOTH,
      files: shards,
      run: () => sample(Deno.execPath(), ["run", "-A", pathOf("read_file.ts"), ...shards]),
    },
    ...Object.entries(peers).map(([peer, version]): Contender => ({
      name: `${names[peer]} (${version})`,
      isLimit: false,
      kinds: BOTH,
      files: shards,
      run: () => sample("python3", [pathOf("peers.py"), peer, ...shards]),
    })),
  ];
}

/** A variant of the limit probe. */
export function limit(
  tools: Tools,
  files: readonly string[],
  kinds: readonly CacheKind[],
  flags: readonly string[],
  threads: number,
): Contender {
  const way = flags.includes("-p") ? "O_DIRECT, populate" : flags.includes("-d") ? "O_DIRECT" : "buffered";
  return {
    name: `limit: ${way}, ${threads} thread${threads === 1 ? "" : "s"}`,
    isLimit: true,
    kinds,
    files,
    run: async () => ({ seconds: await tools.time("limit", [...flags, "-t", String(threads), ...files]) }),
  };
}

/** Options as JSON: of a group only the rank and the size are used. */
type JsonOptions = Omit<OpenOptions, "group"> & { readonly group?: Pick<ProcessGroup, "rank" | "size"> };

/** This loader, with these options. */
export function thisLoader(name: string, files: readonly string[], options: JsonOptions = {}): Contender {
  const args = ["run", "-A", pathOf("this_loader.ts"), JSON.stringify(options), ...files];
  return { name, isLimit: false, kinds: BOTH, files, run: () => sample(Deno.execPath(), args) };
}

async function sample(command: string, args: readonly string[]): Promise<Sample> {
  return JSON.parse(await output(command, args));
}

async function probePython(): Promise<Record<string, string>> {
  try {
    return JSON.parse(await output("python3", [pathOf("peers.py"), "probe"]));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return {};
    throw error;
  }
}

function pathOf(file: string): string {
  return new URL(`./${file}`, import.meta.url).pathname;
}
