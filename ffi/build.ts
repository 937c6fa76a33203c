/**
 * Builds the shim from its sources with the machine's C compiler, once per source hash and user.
 */
import { sha256 } from "../src/base/sha256.ts";
import { environmentVariable, isGranted } from "./variables.ts";
import { checkPermissions } from "./permissions.ts";
import { SOURCES_HASH } from "./recipe.ts";
import { quote } from "../src/base/text.ts";

/** Flags of every build; they need only a C compiler. */
const FLAGS = ["-std=gnu11", "-O3", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"];
/** Deno closes a library when its isolate ends; the code must stay in memory for lanes that still run. */
const LIBRARIES = ["-shared", "-lpthread", "-ldl", "-Wl,-z,nodelete"];

/** Sources of the shim: path below `native/` → text. */
export type Sources = Readonly<Record<string, string>>;

/** Options of a build: of the normal shim, or of one for tests. */
export interface BuildOptions {
  /** More flags, for compiler and linker, such as `-fsanitize=address`. */
  flags?: readonly string[];
  /** Path below `native/` → text, in place of the package's own sources. */
  sources?: Sources;
  /** The folder of builds; default is the user's cache folder. */
  folder?: string;
}

/**
 * Returns the folder of built libraries: `$XDG_CACHE_HOME/fastsafetensors`, else `~/.cache/fastsafetensors`.
 *
 * @throws {PermissionsMissing} if the program cannot read the variables
 */
export function cacheFolder(): string {
  const cache = environmentVariable("XDG_CACHE_HOME");
  if (cache?.startsWith("/")) return `${cache}/fastsafetensors`;
  const home = environmentVariable("HOME");
  if (home) return `${home}/.cache/fastsafetensors`;
  const seen = ["XDG_CACHE_HOME", "HOME"].every((variable) => isGranted({ name: "env", variable }));
  if (!seen) checkPermissions(null);
  throw new Error('Cannot find the cache folder: neither "XDG_CACHE_HOME" nor "HOME" is set');
}

/** Returns the SHA-256 of the JSON of a value, such as sources and flags. */
export function hashOf(value: unknown): Promise<string> {
  return sha256(new TextEncoder().encode(JSON.stringify(value)));
}

/** Returns the SHA-256 of all inputs of a build: the sources, all flags and the architecture. */
export function recipeHash(flags: readonly string[] = [], arch: string = Deno.build.arch): Promise<string> {
  return hashOf([SOURCES_HASH, FLAGS, LIBRARIES, flags, arch]);
}

/** Imports the sources, only for a compilation: most programs find an existing library. */
async function loadSources(): Promise<Sources> {
  const { SOURCES } = await import("./sources.ts");
  if (await hashOf(SOURCES) === SOURCES_HASH) return SOURCES;
  throw new Error('Cannot build the native library: its sources have changed, run "deno task build:sources"');
}

/** Returns the path of a build with these options, also before it is built. Its name has a hash of sources and flags. */
export async function builtPath(options: BuildOptions = {}): Promise<string> {
  const { flags = [], sources } = options;
  const hash = sources ? await hashOf([await recipeHash(flags), sources]) : await recipeHash(flags);
  return `${options.folder ?? cacheFolder()}/libfastsafetensors-${hash.slice(0, 24)}.so`;
}

/**
 * Builds the shim unless it exists, and returns its path.
 *
 * A lock lets one process build while others wait, and a rename makes the complete library visible in one step.
 *
 * @throws {PermissionsMissing} if the program cannot build or open it; then no compiler was started
 * @throws {Error} if the compiler is missing or fails; the message has its output
 */
export async function buildShim(options: BuildOptions = {}): Promise<string> {
  const path = await builtPath(options);
  const folder = path.slice(0, path.lastIndexOf("/"));
  const isNew = !isGranted({ name: "read", path: folder }) || !await exists(path);
  checkPermissions({ path, folder, isNew, isBuilt: true });
  if (!isNew) return path;
  await Deno.mkdir(folder, { recursive: true });
  using lock = await Deno.open(`${path}.lock`, { create: true, write: true });
  await lock.lock(true);
  if (!await exists(path)) await compile(path, folder, options);
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

async function compile(path: string, folder: string, options: BuildOptions): Promise<void> {
  const work = await Deno.makeTempDir({ dir: folder, prefix: "build-" });
  const announce = () =>
    console.warn("fastsafetensors: building the native library, once: this takes some seconds");
  try {
    await Deno.rename(await compileShim(work, { ...options, onStart: announce }), path);
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

/** Options of the compiler. */
export interface CompileOptions extends Pick<BuildOptions, "flags" | "sources"> {
  /** The compiler's name, default `cc`. */
  compiler?: string;
  /** Called after the compiler has started. */
  onStart?: () => void;
}

/**
 * Compiles the shim in an empty folder, without a check for earlier builds: the sources in parallel on all cores, then
 * links them. The object of each source stays in its folder: `core/plan.c.o`.
 *
 * @returns the path of the library in that folder
 * @throws {Error} if the compiler is missing or fails; the message has its output
 */
export async function compileShim(folder: string, options: CompileOptions = {}): Promise<string> {
  const { flags = [], sources = await loadSources(), compiler = "cc" } = options;
  let { onStart } = options;
  for (const [name, text] of Object.entries(sources)) {
    await Deno.mkdir(`${folder}/${name}`.replace(/\/[^/]*$/, ""), { recursive: true });
    await Deno.writeTextFile(`${folder}/${name}`, text);
  }
  const units = Object.keys(sources).filter((name) => name.endsWith(".c"));
  const objects = units.map((name) => `${name}.o`);
  const run = async (...args: readonly string[]) => {
    const running = start(compiler, folder, [...FLAGS, ...flags, ...args]);
    onStart?.();
    onStart = undefined;
    await succeed(compiler, running);
  };
  const waiting = [...units];
  const work = async () => {
    for (let unit = waiting.shift(); unit !== undefined; unit = waiting.shift()) {
      try {
        await run("-I.", "-c", "-o", `${unit}.o`, unit);
      } catch (error) {
        waiting.length = 0; // one failure is enough
        throw error;
      }
    }
  };
  const results = await Promise.allSettled(Array.from({ length: navigator.hardwareConcurrency }, work));
  const failed = results.find((result) => result.status === "rejected");
  if (failed) throw failed.reason;
  await run("-o", "shim.so", ...objects, ...LIBRARIES);
  return `${folder}/shim.so`;
}

function start(compiler: string, cwd: string, args: readonly string[]): Deno.ChildProcess {
  try {
    return new Deno.Command(compiler, {
      args: [...args],
      cwd,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    })
      .spawn();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    const message = `Cannot build the native library: there is no C compiler ${quote(compiler)} on the PATH`;
    throw new Error(message, { cause: error });
  }
}

async function succeed(compiler: string, process: Deno.ChildProcess): Promise<void> {
  const { success, code, stderr } = await process.output();
  if (success) return;
  const printed = new TextDecoder().decode(stderr).trim();
  throw new Error(
    `Cannot build the native library: ${quote(compiler)} ended with status ${code}:\n${printed}`,
  );
}
