/**
 * What the system grants to loads, as far as this program may see it.
 */
import { mayRead } from "../../ffi/variables.ts";

/** What the system grants to loads; null is not known, here or on this system. */
export interface MachineReport {
  /** Version of the kernel. */
  readonly kernel: string | null;
  /** Size in bytes of `/dev/shm`, which ranks on one machine and the rings of 3FS share memory in; null: half of memory. */
  readonly sharedMemory: number | null;
  /** Bytes of memory that may be locked, as adapters for InfiniBand need it; null: without a limit. */
  readonly lockedMemory: number | null;
  /** Adapters for InfiniBand. */
  readonly infiniBand: readonly string[];
  /** When tensors' memory gets huge pages. */
  readonly hugePages: "always" | "madvise" | "never" | null;
}

/** Looks at the system, which has these mounts. */
export async function reportMachine(mounts: readonly Mount[]): Promise<MachineReport> {
  return {
    kernel: /^Linux version (\S+)/.exec(await readText("/proc/version"))?.[1] ?? null,
    sharedMemory: mounts.find(({ folder }) => folder === "/dev/shm")?.size ?? null,
    lockedMemory: parseLockedMemory(await readText("/proc/self/limits")),
    infiniBand: listFolder("/sys/class/infiniband"),
    hugePages: parseHugePages(await readText("/sys/kernel/mm/transparent_hugepage/enabled")),
  };
}

/** A mounted file system. */
export interface Mount {
  /** Where it is mounted. */
  readonly folder: string;
  /** Its type, such as "ext4". */
  readonly type: string;
  /** Bytes that a file system in memory was limited to; null for others. */
  readonly size: number | null;
}

/** The mounts of this machine, in the order of mounting; none where they cannot be seen. */
export async function readMounts(): Promise<Mount[]> {
  return parseMounts(await readText("/proc/mounts"));
}

/** Mounts from the text of `/proc/mounts`. */
export function parseMounts(text: string): Mount[] {
  const mounts: Mount[] = [];
  for (const line of text.split("\n")) {
    const [, folder, type, options] = line.split(" ");
    if (folder === undefined || type === undefined || options === undefined) continue;
    const [, number, unit = ""] = /(?:^|,)size=(\d+)([kmg]?)(?:,|$)/.exec(options) ?? [];
    const size = number === undefined ? null : Number(number) * 1024 ** " kmg".indexOf(unit || " ");
    // Spaces and the like are in octal.
    const plain = folder.replaceAll(/\\([0-7]{3})/g, (_, code) => String.fromCharCode(parseInt(code, 8)));
    mounts.push({ folder: plain, type, size });
  }
  return mounts;
}

/** The limit in force from the text of `/proc/self/limits`. */
export function parseLockedMemory(text: string): number | null {
  const limit = /^Max locked memory\s+(\d+)\s/m.exec(text)?.[1];
  return limit === undefined ? null : Number(limit);
}

/** The choice in force, which stands in brackets. */
export function parseHugePages(text: string): MachineReport["hugePages"] {
  const chosen = /\[(\w+)\]/.exec(text)?.[1];
  return (["always", "madvise", "never"] as const).find((choice) => choice === chosen) ?? null;
}

/** A file of the system; empty where there is none, or it may not be read. */
async function readText(path: string): Promise<string> {
  if (!mayRead(path)) return "";
  try {
    return await Deno.readTextFile(path);
  } catch {
    return "";
  }
}

/** The names in a folder of the system; none where there is none. */
function listFolder(path: string): string[] {
  if (!mayRead(path)) return [];
  try {
    return [...Deno.readDirSync(path)].map(({ name }) => name).sort();
  } catch {
    return [];
  }
}
