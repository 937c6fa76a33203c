/**
 * Object files of the native library, for C programs that test functions which the library does not export.
 */
import { cacheFolder, compileShim, hashOf } from "../../ffi/build.ts";
import { TEST_SOURCES, WRAP_FLAGS } from "./test_library.ts";

const ROOT = new URL("../../", import.meta.url).pathname;

/** Flags for the C tests. */
export const C_FLAGS: readonly string[] = [
  "-std=gnu11",
  "-Wall",
  "-Wextra",
  "-Werror",
  `-I${ROOT}native`,
  `-I${ROOT}tests/native`,
  `-I${ROOT}tests/native/added`,
  ...WRAP_FLAGS,
];

/** Runs a command; a failure includes its output. */
export async function run(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): Promise<void> {
  const { success, code, stdout, stderr } = await new Deno.Command(command, { args: [...args], ...options })
    .output();
  if (success) return;
  const printed = new TextDecoder().decode(new Uint8Array([...stdout, ...stderr]));
  // Older ThreadSanitizers support only the usual address ranges, and a kernel may use others.
  if (printed.includes("unexpected memory mapping") && command !== "setarch") {
    return await run("setarch", ["-R", command, ...args], options);
  }
  throw new Error(`${command} ended with status ${code}:\n${printed}`);
}

/** The sanitizers of the C tests, by their names for `-fsanitize=`. */
export const SANITIZERS = ["address,undefined", "thread"] as const;

/** Flags of a build under a sanitizer. */
export function sanitizerFlags(sanitizer: typeof SANITIZERS[number]): string[] {
  return ["-O1", "-g", `-fsanitize=${sanitizer}`, "-fno-sanitize-recover=all"];
}

/** What {@linkcode nativeObjects} has built. */
export interface Objects {
  /** The objects of all sources. */
  readonly paths: readonly string[];
  /** The library made of them. */
  readonly library: string;
}

/**
 * Compiles all sources, with what tests add to them and every function to be seen; once for each version of them.
 *
 * @param flags more flags, for compiler and linker
 */
export async function nativeObjects(cc: string, flags: readonly string[]): Promise<Objects> {
  const all = ["-Werror", "-fvisibility=default", ...WRAP_FLAGS, ...flags];
  const folder = `${cacheFolder()}/objects-${(await hashOf([TEST_SOURCES, cc, all])).slice(0, 24)}`;
  await Deno.mkdir(cacheFolder(), { recursive: true });
  using lock = await Deno.open(`${folder}.lock`, { create: true, write: true });
  await lock.lock(true);
  if (await Deno.stat(folder).catch(() => null) === null) {
    const work = await Deno.makeTempDir({ dir: cacheFolder(), prefix: "build-" });
    await compileShim(work, { sources: TEST_SOURCES, flags: all, compiler: cc });
    await Deno.rename(work, folder);
  }
  const units = Object.keys(TEST_SOURCES).filter((name) => name.endsWith(".c"));
  return { paths: units.map((unit) => `${folder}/${unit}.o`), library: `${folder}/shim.so` };
}
