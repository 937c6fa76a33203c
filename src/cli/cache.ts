/**
 * `cache`: lists, verifies and prunes the files of the cache.
 */
import {
  bytesOnDisk,
  type CacheEntry,
  hubEntries,
  totalBytes,
  urlEntries,
} from "../files/native/cache/content.ts";
import { type CacheFolders, cacheFolders } from "../files/native/cache/folders.ts";
import { prune } from "../files/native/cache/prune.ts";
import { type VerifiedFile, verifyEntries } from "../files/native/cache/verify.ts";
import type { CacheOption } from "../files/network_options.ts";
import { readError } from "../files/native/local_path.ts";
import { type Arguments, unknownWord, UsageError } from "./arguments.ts";
import type { Command, Option } from "./command.ts";
import { interruptible } from "./interrupt.ts";
import { ProgressBar } from "./progress_bar.ts";
import { formatBytes, formatCount, formatTable, printable } from "./text.ts";
import { quote } from "../base/text.ts";

const ACTIONS = ["list", "verify", "prune", "path"] as const;

/** The option `--cache` of commands that work on a cache. */
export const CACHE_FOLDER: Option = {
  kind: "text",
  value: "DIR",
  help: "the folder of the cache (default: that of HF_HUB_CACHE or HF_HOME, else ~/.cache/huggingface/hub)",
};

/** The option `--cache` of commands that load, for {@linkcode cacheOf}. */
export const CACHE: Option = {
  kind: "text",
  value: "C",
  help: "keep files on servers on disk: true, false, or a folder (default: true for hf://)",
  choices: ["true", "false"],
};

/** The value of the option `--cache`. */
export function cacheOf(args: Arguments): CacheOption | undefined {
  const text = args.text("cache");
  return text === "true" || text === "false" ? text === "true" : text;
}

/** The option `cache` of commands that read the cache and never fill it. */
export const READ_ONLY = { fill: false } as const;

/** The command. */
export const cache: Command = {
  summary: "List, verify or prune the files that were fetched",
  inputs: "[list | verify | prune --max SIZE | path]",
  choices: ACTIONS,
  description:
    "Works on the cache of files from the network: that of the Hub, which Python's tools use too, and that of other " +
    "servers. list (the default) shows revisions, partial files and their last use. verify compares files with the " +
    "checksums that are their names. prune removes the least recently used entries until the rest fits into --max; " +
    "what a running program uses stays, and so does what is not the cache's own. path prints the folder.",
  options: {
    max: {
      kind: "text",
      value: "SIZE",
      help: "with prune: the most bytes that stay, such as 200GB; 0 removes all",
    },
    cache: CACHE_FOLDER,
    json: { kind: "flag", help: "print JSON" },
  },
  examples: [
    ["cache", "what was fetched, and when it was last used"],
    ["cache verify", "check all files against their checksums"],
    ["cache prune --max 200GB", "remove what was not used for longest"],
  ],

  async run(args) {
    const [action = "list", extra] = args.inputs;
    if (!(ACTIONS as readonly string[]).includes(action)) {
      throw unknownWord("action", quote(action), ACTIONS.map(quote));
    }
    if (extra !== undefined) throw new UsageError(`Only one action can be given, got ${quote(extra)} too`);
    const max = maxOf(args);
    if ((max !== undefined) !== (action === "prune")) {
      throw new UsageError(
        action === "prune" ? "prune needs --max, such as --max 200GB" : "--max is for prune",
      );
    }
    const folders = cacheFolders(args.text("cache"));
    if (action === "path") return console.log(args.flag("json") ? JSON.stringify(folders) : folders.hub);
    const entries = await entriesOf(folders);
    if (action === "list") return await list(entries, folders, args.flag("json"));
    await interruptible("The work on the cache was interrupted", async (signal) => {
      if (action === "verify") await verify(entries, args.flag("json"), signal);
      else await pruneTo(max!, entries, folders, args.flag("json"), signal);
    });
  },
};

/** The value of `--max`: bytes, also 0. */
function maxOf(args: Arguments): number | undefined {
  return args.text("max") === "0" ? 0 : args.bytes("max");
}

async function entriesOf({ hub, urls }: CacheFolders): Promise<CacheEntry[]> {
  try {
    return [...await hubEntries(hub), ...await urlEntries(urls)];
  } catch (error) {
    throw readError(error, "open", hub);
  }
}

async function list(
  entries: readonly CacheEntry[],
  { hub, urls }: CacheFolders,
  json: boolean,
): Promise<void> {
  const bytes = await totalBytes(entries);
  if (json) {
    const listed = entries.map(({ kind, name, refs, files, bytes, lastUsed }) => {
      const names = files.map(({ name, size }) => ({ name, size }));
      return { kind, name, refs, files: names, bytes, lastUsed: new Date(lastUsed).toISOString() };
    });
    return console.log(JSON.stringify({ folder: hub, urls, entries: listed, bytes }, null, 2));
  }
  const rows = entries.toSorted((a, b) => b.lastUsed - a.lastUsed).map((entry) => [
    printable(shortName(entry)),
    printable(entry.refs.join(", ")),
    entry.kind === "revision" ? `${entry.files.length}` : entry.kind === "url" ? "1" : entry.kind,
    formatBytes(entry.bytes),
    new Date(entry.lastUsed).toISOString().slice(0, 10),
  ]);
  if (rows.length > 0) {
    console.log(formatTable([["name", "refs", "files", "size", "last used"], ...rows], [2, 3]));
  }
  const count = rows.length === 1 ? "1 entry" : `${rows.length} entries`;
  console.log(`${count}, ${formatBytes(bytes)} in ${printable(hub)}`);
}

/** The name of an entry with the first digits of its commit or blob. */
function shortName({ name }: CacheEntry): string {
  return name.replace(/(?<=[@ ])([0-9a-f]{8})[0-9a-f]{32,}$/, "$1");
}

async function verify(entries: readonly CacheEntry[], json: boolean, signal: AbortSignal): Promise<void> {
  const files: VerifiedFile[] = [];
  {
    using bar = new ProgressBar("Verifying", { quiet: json });
    const total = await totalBytes(entries.filter(({ kind }) => kind !== "partial"));
    let done = 0;
    for await (const file of verifyEntries(entries, signal)) {
      files.push(file);
      bar.update(done += await bytesOnDisk(file.path), total);
    }
  }
  const checked = files.filter(({ expected }) => expected !== null);
  const wrong = checked.filter(({ expected, actual }) => expected !== actual);
  if (json) console.log(JSON.stringify({ files, wrong: wrong.length }, null, 2));
  else {
    const others = files.length - checked.length;
    const unknown = others > 0 ? `, ${formatCount(others, "file")} without a checksum` : "";
    const right = checked.length - wrong.length;
    console.log(`${right} of ${formatCount(checked.length, "file")} with a checksum agree${unknown}`);
    for (const { entry, path, actual } of wrong) {
      console.log(`  ${printable(path)} (${printable(entry)}): ${actual} found`);
    }
  }
  if (wrong.length === 0) return;
  const first = quote(wrong[0]!.path);
  throw new Error(
    `Verification failed: ${wrong.length} of ${checked.length} files do not agree, the first is ${first}: ` +
      "remove it, and fetch it again",
  );
}

async function pruneTo(
  most: number,
  entries: readonly CacheEntry[],
  { hub }: CacheFolders,
  json: boolean,
  signal: AbortSignal,
): Promise<void> {
  const { removed, inUse, freed, bytes } = await prune(entries, hub, most, signal);
  const named = (list: readonly CacheEntry[]) => list.map(({ kind, name }) => ({ kind, name }));
  if (json) {
    return console.log(
      JSON.stringify({ removed: named(removed), inUse: named(inUse), freed, bytes }, null, 2),
    );
  }
  for (const entry of removed) console.log(`Removed ${printable(shortName(entry))}`);
  for (const entry of inUse) console.log(`Left ${printable(shortName(entry))}: it is in use`);
  console.log(`${formatBytes(freed)} freed, ${formatBytes(bytes)} left`);
}
