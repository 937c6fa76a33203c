/**
 * Building the shim from its sources with the machine's C compiler, once per source hash and user.
 */
import { SOURCES } from "./sources.ts";

/** Flags of every build; a bare C compiler is all they need. */
const FLAGS = ["-std=gnu11", "-O3", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra"];
/** Deno closes a library when its isolate ends: lanes that still run then must not lose the code under their feet. */
const LIBRARIES = ["-lpthread", "-ldl", "-Wl,-z,nodelete"];

/** What to build: the ordinary shim, or one for tests. */
export interface BuildOptions {
  /** More compiler flags, such as `-DFST_FAULTS`. */
  flags?: readonly string[];
  /** Where builds are kept, default the user's cache folder. */
  folder?: string;
}

/** The folder in which built libraries are kept: `$XDG_CACHE_HOME/fastsafetensors`, else `~/.cache/fastsafetensors`. */
export function cacheFolder(): string {
  const cache = Deno.env.get("XDG_CACHE_HOME");
  if (cache?.startsWith("/")) return `${cache}/fastsafetensors`;
  const home = Deno.env.get("HOME");
  if (!home) throw new Error('Cannot find the cache folder: neither "XDG_CACHE_HOME" nor "HOME" is set');
  return `${home}/.cache/fastsafetensors`;
}

/** SHA-256 in hexadecimal digits. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** What a build is made of: SHA-256 over the sources, the flags of every build, these and the architecture. */
export function recipeHash(flags: readonly string[] = [], arch: string = Deno.build.arch): Promise<string> {
  return sha256(new TextEncoder().encode(JSON.stringify([SOURCES, FLAGS, LIBRARIES, flags, arch])));
}

/** The path at which a build with these options lives, built or not: its name carries a hash of sources and flags. */
export async function builtPath(options: BuildOptions = {}): Promise<string> {
  const hash = await recipeHash(options.flags);
  return `${options.folder ?? cacheFolder()}/libfastsafetensors-${hash.slice(0, 24)}.so`;
}

/**
 * Builds the shim unless it is there, and returns its path.
 *
 * Two processes at once do not fight: a lock lets one build while the other waits, and the library appears under
 * its name in one step, complete.
 *
 * @throws {Error} if the compiler is missing or fails; the message holds what it printed
 */
export async function buildShim(options: BuildOptions = {}): Promise<string> {
  const path = await builtPath(options);
  if (await exists(path)) return path;
  const folder = path.slice(0, path.lastIndexOf("/"));
  await Deno.mkdir(folder, { recursive: true });
  using lock = await Deno.open(`${path}.lock`, { create: true, write: true });
  await lock.lock(true);
  if (!await exists(path)) await compile(path, folder, options.flags ?? []);
  return path;
}

async function exists(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

async function compile(path: string, folder: string, flags: readonly string[]): Promise<void> {
  const work = await Deno.makeTempDir({ dir: folder, prefix: "build-" });
  try {
    await Deno.rename(await compileShim(work, flags), path);
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

/**
 * Compiles the shim in an empty folder, whatever was built before.
 *
 * @param flags more flags, for compiler and linker
 * @param compiler its name, default `cc`
 * @returns the path of the library in that folder
 * @throws {Error} if the compiler is missing or fails; the message holds what it printed
 */
export async function compileShim(
  folder: string,
  flags: readonly string[] = [],
  compiler = "cc",
): Promise<string> {
  await Deno.mkdir(`${folder}/kernels`);
  for (const [name, text] of Object.entries(SOURCES)) await Deno.writeTextFile(`${folder}/${name}`, text);
  const units = Object.keys(SOURCES).filter((name) => name.endsWith(".c"));
  const args = [...FLAGS, ...flags, "-I.", "-o", "shim.so", ...units, ...LIBRARIES];
  let output: Deno.CommandOutput;
  try {
    output = await new Deno.Command(compiler, { args, cwd: folder, stdout: "piped", stderr: "piped" })
      .output();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new Error(`Cannot build the native library: there is no C compiler "${compiler}" on the PATH`, {
        cause: error,
      });
    }
    throw error;
  }
  if (!output.success) {
    const printed = new TextDecoder().decode(output.stderr).trim();
    throw new Error(
      `Cannot build the native library: "${compiler}" ended with status ${output.code}:\n${printed}`,
    );
  }
  return `${folder}/shim.so`;
}
