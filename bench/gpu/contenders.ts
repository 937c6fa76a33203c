/**
 * The contenders on a GPU and their runs: every run is a separate process, which initializes the device before its
 * clock starts.
 */
import type { OpenOptions } from "../../mod.ts";
import type { CacheKind, Contender } from "../side_by_side/contenders.ts";
import type { Data } from "../side_by_side/data.ts";
import type { Sample } from "../side_by_side/sample.ts";
import { output } from "../side_by_side/tools.ts";

/** The kind of a limit: of the copy to the device, or of the reads from storage. */
export type LimitKind = "copy" | "read";

/** A contender. */
export interface GpuContender extends Contender {
  /** The limit of which it is a variant; null for loaders. */
  readonly limit: LimitKind | null;
}

const BOTH: readonly CacheKind[] = ["hot", "cold"];

/**
 * All contenders that can run on this machine.
 *
 * @param peak the program of peak.c
 */
export async function gpuContenders(
  peak: string,
  { shards, bytes }: Data,
  { gds, limitThreads }: {
    /** Whether GPUDirect Storage is available. */
    readonly gds: boolean;
    /** Threads of the variants of each limit. */
    readonly limitThreads: readonly number[];
  },
): Promise<GpuContender[]> {
  return [
    ...limitThreads.flatMap((threads) => [
      limit(peak, shards, "copy", BOTH, ["copy", "-t", `${threads}`, `${bytes}`], `copy, ${threads} streams`),
      limit(
        peak,
        shards,
        "read",
        ["hot"],
        ["read", "-t", `${threads}`, ...shards],
        `read, ${threads} threads`,
      ),
      limit(
        peak,
        shards,
        "read",
        ["cold"],
        ["read", "-d", "-t", `${threads}`, ...shards],
        `read, ${threads} threads`,
      ),
    ]),
    thisLoader("this loader", shards, {}),
    thisLoader("this loader, by way of the host", shards, { gds: "off" }),
    thisLoader("this loader, BF16 cast to F16", shards, { dtype: "F16" }),
    thisLoader("this loader, BF16 cast to F32", shards, { dtype: "F32" }),
    ...gds ? [thisLoader("this loader, GPUDirect Storage", shards, { gds: "require" })] : [],
    ...await usablePeers(shards, gds),
  ];
}

/** The peers that load these files once without an error; the others are named on stderr with their error. */
async function usablePeers(shards: readonly string[], gds: boolean): Promise<GpuContender[]> {
  const { found, missing } = await probePython();
  for (const [name, reason] of Object.entries(missing)) {
    console.error(`warning: ${name} does not take part: ${reason}`);
  }
  const saved = shards.map((path) => `${path}.pt`);
  const peers: [name: string, title: string, files: readonly string[], flags: readonly string[]][] = [
    ["safetensors", "safetensors load_file", shards, []],
    ["torch", "torch.load, memory-mapped", saved, []],
    ["fastsafetensors", "fastsafetensors, nogds", shards, ["--nogds"]],
    ...gds ? [["fastsafetensors", "fastsafetensors, GDS", shards, []] as typeof peers[number]] : [],
  ];
  const usable: GpuContender[] = [];
  for (const [name, title, files, flags] of peers) {
    if (found[name] === undefined) continue;
    const run = () => sample("python3", [pathOf("peers.py"), name, ...flags, ...files]);
    try {
      if (name === "torch") await output("python3", [pathOf("peers.py"), "save", ...shards]);
      await run();
    } catch (error) {
      console.error(`warning: ${title} does not take part: ${(error as Error).message}`);
      continue;
    }
    const known = { isLimit: false, limit: null, kinds: BOTH };
    usable.push({ ...known, name: `${title} (${found[name]})`, files, run });
  }
  return usable;
}

function limit(
  peak: string,
  files: readonly string[],
  limit: LimitKind,
  kinds: readonly CacheKind[],
  args: readonly string[],
  name: string,
): GpuContender {
  const run = async () => ({ seconds: Number(await output(peak, args)) });
  return { name: `limit: ${name}`, isLimit: true, limit, kinds, files, run };
}

function thisLoader(name: string, files: readonly string[], options: OpenOptions<"cuda">): GpuContender {
  const args = [
    "run",
    "-A",
    pathOf("this_loader.ts"),
    JSON.stringify({ device: "cuda", ...options }),
    ...files,
  ];
  return { name, isLimit: false, limit: null, kinds: BOTH, files, run: () => sample(Deno.execPath(), args) };
}

async function sample(command: string, args: readonly string[]): Promise<Sample> {
  return JSON.parse(await output(command, args));
}

/** Name of a peer → its version, and name → the reason against it. */
interface Probed {
  readonly found: Readonly<Record<string, string>>;
  readonly missing: Readonly<Record<string, string>>;
}

async function probePython(): Promise<Probed> {
  try {
    return JSON.parse(await output("python3", [pathOf("peers.py"), "probe"]));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      return { found: {}, missing: { "PyTorch, with all peers,": "there is no python3" } };
    }
    throw error;
  }
}

function pathOf(file: string): string {
  return new URL(`./${file}`, import.meta.url).pathname;
}
