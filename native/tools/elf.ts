/**
 * What a library demands of the machine that opens it.
 */
import type { Platform } from "../../ffi/prebuilt.ts";

/** The newest version of glibc whose functions a release may need: that of every Linux since 2014. */
export const NEWEST_GLIBC = "2.17";

/** What `readelf` calls the processors. */
const MACHINES: Readonly<Record<Platform, string>> = {
  "linux-x86_64": "Advanced Micro Devices X86-64",
  "linux-aarch64": "AArch64",
};

/** The parts of glibc, which are one file since version 2.34. */
const GLIBC = ["libc.so.6", "libdl.so.2", "libpthread.so.0"];

/**
 * What stands in the way of a library's use with glibc 2.17 and newer on a platform.
 *
 * @param printed by `readelf --wide --file-header --dynamic --version-info`
 * @returns a sentence for each obstacle
 */
export function obstacles(printed: string, platform: Platform): string[] {
  const found: string[] = [];
  const machine = printed.match(/^\s*Machine:\s*(.+?)\s*$/m)?.[1];
  if (machine !== MACHINES[platform]) found.push(`it is for "${machine}", not for "${MACHINES[platform]}"`);
  for (const [, library] of printed.matchAll(/\(NEEDED\)\s+Shared library: \[(.+?)\]/g)) {
    if (!GLIBC.includes(library!)) found.push(`it needs "${library}"`);
  }
  const needs = printed.slice(Math.max(0, printed.indexOf("Version needs section")));
  for (const [, version] of needs.matchAll(/Name: (\S+)\s+Flags:/g)) {
    if (!version!.startsWith("GLIBC_") || isNewer(version!.slice("GLIBC_".length), NEWEST_GLIBC)) {
      found.push(`it needs version ${version}`);
    }
  }
  return found;
}

function isNewer(version: string, than: string): boolean {
  const [a, b] = [version, than].map((text) => text.split(".").map(Number));
  for (let part = 0; part < a!.length; part++) {
    const difference = a![part]! - (b![part] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return false;
}

/**
 * Checks a library.
 *
 * @throws {Error} if it would not run everywhere on this platform
 */
export async function checkLibrary(path: string, platform: Platform): Promise<void> {
  const { success, stdout, stderr } = await new Deno.Command("readelf", {
    args: ["--wide", "--file-header", "--dynamic", "--version-info", path],
    env: { LC_ALL: "C" },
  }).output();
  const decoder = new TextDecoder();
  if (!success) throw new Error(`Cannot look into "${path}": ${decoder.decode(stderr).trim()}`);
  const found = obstacles(decoder.decode(stdout), platform);
  if (found.length > 0) throw new Error(`Cannot release "${path}" for ${platform}: ${found.join(", ")}`);
}
