/**
 * Limits and settings of the system that matter to loads, as far as this program has permission to read them.
 */
import { mayRead } from "../../ffi/variables.ts";

/** Limits and settings of the system that matter to loads; null means unknown. */
export interface MachineReport {
  /** Version of the kernel. */
  readonly kernel: string | null;
  /** Size in bytes of `/dev/shm`, the shared memory of ranks on one machine and of 3FS' rings; null: half of memory. */
  readonly sharedMemory: number | null;
  /** Bytes of memory that may be locked, which InfiniBand adapters need; null: without a limit. */
  readonly lockedMemory: number | null;
  /** InfiniBand adapters. */
  readonly infiniBand: readonly string[];
  /** The setting of transparent huge pages for the memory of tensors. */
  readonly hugePages: "always" | "madvise" | "never" | null;
}

/** Examines the system with these mounts. */
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
  /** Its mount point. */
  readonly folder: string;
  /** Its type, such as "ext4". */
  readonly type: string;
  /** The limit in bytes of a file system in memory; null for others. */
  readonly size: number | null;
}

/** The mounts of this machine, in the order of mounting; empty if they cannot be read. */
export async function readMounts(): Promise<Mount[]> {
  return parseMounts(await readText("/proc/mounts"));
}

/** Parses the text of `/proc/mounts`. */
export function parseMounts(text: string): Mount[] {
  const mounts: Mount[] = [];
  for (const line of text.split("\n")) {
    const [, folder, type, options] = line.split(" ");
    if (folder === undefined || type === undefined || options === undefined) continue;
    const [, number, unit = ""] = /(?:^|,)size=(\d+)([kmg]?)(?:,|$)/.exec(options) ?? [];
    const size = number === undefined ? null : Number(number) * 1024 ** " kmg".indexOf(unit || " ");
    // Spaces and similar characters are octal escapes.
    const plain = folder.replaceAll(/\\([0-7]{3})/g, (_, code) => String.fromCharCode(parseInt(code, 8)));
    mounts.push({ folder: plain, type, size });
  }
  return mounts;
}

/** Parses the soft limit from the text of `/proc/self/limits`. */
export function parseLockedMemory(text: string): number | null {
  const limit = /^Max locked memory\s+(\d+)\s/m.exec(text)?.[1];
  return limit === undefined ? null : Number(limit);
}

/** The active choice: it is in brackets. */
export function parseHugePages(text: string): MachineReport["hugePages"] {
  const chosen = /\[(\w+)\]/.exec(text)?.[1];
  return (["always", "madvise", "never"] as const).find((choice) => choice === chosen) ?? null;
}

/** The text of a system file; empty if it does not exist or may not be read. */
async function readText(path: string): Promise<string> {
  if (!mayRead(path)) return "";
  try {
    return await Deno.readTextFile(path);
  } catch {
    return "";
  }
}

/** The names in a system folder; empty if it does not exist. */
function listFolder(path: string): string[] {
  if (!mayRead(path)) return [];
  try {
    return [...Deno.readDirSync(path)].map(({ name }) => name).sort();
  } catch {
    return [];
  }
}
