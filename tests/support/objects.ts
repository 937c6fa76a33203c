/**
 * Objects of the native library's sources, for C programs that test functions which the library does not export.
 */
import { cacheFolder, sha256 } from "../../ffi/build.ts";
import { SOURCES } from "../../ffi/sources.ts";

const NATIVE = new URL("../../native/", import.meta.url).pathname;
const UNITS = Object.keys(SOURCES).filter((name) => name.endsWith(".c"));

/** Flags for the sources, and for the C tests too. */
export const C_FLAGS: readonly string[] = [
  "-std=gnu11",
  "-Wall",
  "-Wextra",
  "-Werror",
  "-fPIC",
  "-DFST_FAULTS",
  `-I${NATIVE}`,
];

/** Runs a command; fails with what it printed. */
export async function run(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): Promise<void> {
  const { success, code, stdout, stderr } = await new Deno.Command(command, { args: [...args], ...options })
    .output();
  if (success) return;
  const printed = new TextDecoder().decode(new Uint8Array([...stdout, ...stderr]));
  // Older ThreadSanitizers know only the usual places in memory, which a kernel may spread more widely.
  if (printed.includes("unexpected memory mapping") && command !== "setarch") {
    return await run("setarch", ["-R", command, ...args], options);
  }
  throw new Error(`${command} ended with status ${code}:\n${printed}`);
}

/** What watches the C tests: the names of sanitizers, as `-fsanitize=` takes them. */
export const SANITIZERS = ["address,undefined", "thread"] as const;

/** Flags of a build that a sanitizer watches. */
export function sanitizerFlags(sanitizer: typeof SANITIZERS[number]): string[] {
  return ["-O1", "-g", `-fsanitize=${sanitizer}`, "-fno-sanitize-recover=all"];
}

/**
 * Compiles all sources with {@linkcode C_FLAGS} and more flags, on all cores; once for each version of them.
 *
 * @returns the paths of the objects
 */
export async function nativeObjects(cc: string, flags: readonly string[]): Promise<string[]> {
  const all = [...C_FLAGS, ...flags];
  const digest = await sha256(new TextEncoder().encode(JSON.stringify([SOURCES, cc, all])));
  const folder = `${cacheFolder()}/objects-${digest.slice(0, 24)}`;
  await Deno.mkdir(cacheFolder(), { recursive: true });
  using lock = await Deno.open(`${folder}.lock`, { create: true, write: true });
  await lock.lock(true);
  if (await Deno.stat(folder).catch(() => null) === null) {
    const work = await Deno.makeTempDir({ dir: cacheFolder(), prefix: "build-" });
    const waiting = [...UNITS];
    const compile = async () => {
      for (let unit = waiting.shift(); unit !== undefined; unit = waiting.shift()) {
        const object = `${work}/${unit}.o`;
        await Deno.mkdir(object.slice(0, object.lastIndexOf("/")), { recursive: true });
        await run(cc, [...all, "-c", "-o", object, NATIVE + unit]);
      }
    };
    await Promise.all(Array.from({ length: navigator.hardwareConcurrency }, compile));
    await Deno.rename(work, folder);
  }
  return UNITS.map((unit) => `${folder}/${unit}.o`);
}
