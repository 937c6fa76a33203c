/**
 * The native library with what tests add to it: system calls that can be made to fail, and a few functions to look
 * inside. tests/native/added/ has that: a file that native/ has too is appended to that one, others are new.
 */
import { buildShim, builtPath, type Sources } from "../../ffi/build.ts";
import { SOURCES } from "../../ffi/sources.ts";
import { compiler } from "./compiler.ts";
import { exists } from "./skip.ts";

const ADDED = new URL("../native/added/", import.meta.url);

/** The sources with what is added. */
export const TEST_SOURCES: Sources = withAdded();

/** Options for the linker, with which functions of the name `__wrap_x` take the place of `x`. */
export const WRAP_FLAGS: readonly string[] = [
  `-Wl${Object.values(TEST_SOURCES).flatMap(replaced).map((name) => `,--wrap=${name}`).join("")}`,
];

function withAdded(): Sources {
  const sources = { ...SOURCES };
  for (const path of files(ADDED)) {
    // Not the whole path: the hash of the build, with which an archive for GPU machines brings it, would depend on it.
    const text = `#line 1 "tests/native/added/${path}"\n${Deno.readTextFileSync(new URL(path, ADDED))}`;
    sources[path] = path in sources ? `${sources[path]}${text}` : text;
  }
  return sources;
}

/** Every file below a folder, by its path there. */
function* files(folder: URL, prefix = ""): Generator<string> {
  for (const { name, isDirectory } of Deno.readDirSync(folder)) {
    if (isDirectory) yield* files(new URL(`${name}/`, folder), `${prefix}${name}/`);
    else yield prefix + name;
  }
}

/** The functions whose place others in a source take. */
function replaced(text: string): string[] {
  return [...text.matchAll(/^REPLACE\(\w+, (\w+),/gm)].map(([, name]) => name!);
}

/**
 * Builds the library with what tests add, unless it is there, and returns its path.
 *
 * @param flags more flags, for compiler and linker
 */
export function buildTestShim(flags: readonly string[] = []): Promise<string> {
  return buildShim({ flags: [...WRAP_FLAGS, ...flags], sources: TEST_SOURCES });
}

/** The reason that a library with these flags is not available here; null if it is built or can be built. */
export async function missingTestShim(flags: readonly string[] = []): Promise<string | null> {
  const path = await builtPath({ flags: [...WRAP_FLAGS, ...flags], sources: TEST_SOURCES });
  return exists(path) ? null : (await compiler()).missing;
}

/** What tests add to the library. */
export interface Added {
  /** Makes system calls fail (tests/native/added/added.h); an empty string takes all failures away. */
  setFaults(spec: string): void;
  /** Gives back what CUDA keeps between loads; a status. */
  shutDownCuda(): number;
}

/** Opens the added functions of the library at a path, which stays open. */
export function openAdded(path: string): Added {
  const { symbols } = Deno.dlopen(path, {
    fst_fault_set: { parameters: ["buffer"], result: "i32" },
    fst_cuda_shutdown: { parameters: [], result: "i32" },
  });
  return {
    setFaults(spec) {
      const status = symbols.fst_fault_set(new TextEncoder().encode(`${spec}\0`));
      if (status !== 0) throw new Error(`Cannot set faults "${spec}": status ${status}`);
    },
    shutDownCuda: () => symbols.fst_cuda_shutdown(),
  };
}
