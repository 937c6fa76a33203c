/**
 * The contenders and their runs: every run is a separate process, with its tensors in memory before the clock starts.
 */
import { output } from "../side_by_side/tools.ts";

/** Whether the bytes have to be on storage before the clock stops. */
export type SaveKind = "synced" | "not synced";

/** A contender. */
export interface Saver {
  /** Its name in the table. */
  readonly name: string;
  /** A variant of the probe: the best of them is the limit; this saver; or the reference. */
  readonly role: "limit" | "this" | "reference";
  /** Saves so many bytes to new files in a folder; returns the seconds. */
  run(bytes: number, folder: string, kind: SaveKind): Promise<number>;
}

/** All contenders that can run on this machine; the probe is built in `work`. */
export async function savers(work: string): Promise<Saver[]> {
  const probe = `${work}/probe`;
  const flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", probe];
  await output("cc", [...flags, pathOf("probe.c"), "-lpthread"]);
  const reference = await output("python3", [pathOf("peers.py"), "probe"]).catch(() => "");
  return [
    ...[1, 2, 4, 8].flatMap((threads) => [limit(probe, threads, false), limit(probe, threads, true)]),
    thisSaver("this saver", {}),
    thisSaver("this saver, 4 shards", { shards: 4 }),
    ...reference ? [referenceSaver(reference)] : [],
  ];
}

function limit(probe: string, threads: number, direct: boolean): Saver {
  const way = direct ? "O_DIRECT" : "buffered";
  return {
    name: `limit: ${way}, ${threads} thread${threads === 1 ? "" : "s"}`,
    role: "limit",
    async run(bytes, folder, kind) {
      const flags = [
        "-a",
        "-t",
        String(threads),
        ...direct ? ["-d"] : [],
        ...kind === "synced" ? ["-s"] : [],
      ];
      return Number(await output(probe, [...flags, String(bytes), `${folder}/probe.bin`]));
    },
  };
}

function thisSaver(name: string, { shards }: { shards?: number }): Saver {
  return {
    name,
    role: "this",
    async run(bytes, folder, kind) {
      const options = {
        sync: kind === "synced",
        ...shards === undefined ? {} : { maxShardBytes: Math.ceil(bytes / shards) },
      };
      const args = [String(bytes), `${folder}/model.safetensors`, JSON.stringify(options)];
      return Number(await output(Deno.execPath(), ["run", "-A", pathOf("this_saver.ts"), ...args]));
    },
  };
}

function referenceSaver(version: string): Saver {
  return {
    name: `safetensors save_file (${version})`,
    role: "reference",
    async run(bytes, folder, kind) {
      const sync = kind === "synced" ? "sync" : "nosync";
      return Number(
        await output("python3", [pathOf("peers.py"), String(bytes), `${folder}/model.safetensors`, sync]),
      );
    },
  };
}

function pathOf(file: string): string {
  return new URL(`./${file}`, import.meta.url).pathname;
}
