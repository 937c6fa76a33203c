/**
 * The machine's C compiler, and those for other machines.
 */
import { exists } from "./skip.ts";

/** The path of `cc`, or the reason that it cannot be used. */
export function compiler(): Promise<{ path: string; missing: string | null }> {
  const path = onPath("cc");
  const missing = path === null ? 'there is no C compiler "cc" on the PATH' : null;
  return Promise.resolve({ path: path ?? "cc", missing });
}

/** Why there is no C++ compiler for the kernels of the CUDA stand-in, or null. */
export function missingCxx(): string | null {
  return onPath("c++") === null ? 'there is no C++ compiler "c++" on the PATH' : null;
}

/** Compiler and emulator for another processor than this machine's. */
export interface CrossTools {
  /** Deno's name of that processor. */
  readonly arch: "x86_64" | "aarch64";
  /** Its C compiler. */
  readonly compiler: string;
  /** The command that runs its programs here. */
  readonly runner: readonly string[];
  /** The reason that they cannot be used, or null. */
  readonly missing: string | null;
}

/** The compilers for both processors, and the emulator for the other one. */
export function crossTools(): CrossTools {
  const arch = Deno.build.arch === "x86_64" ? "aarch64" : "x86_64";
  const compiler = `${arch}-linux-gnu-gcc`, emulator = `qemu-${arch}`, root = `/usr/${arch}-linux-gnu`;
  const missing = [`${Deno.build.arch}-linux-gnu-gcc`, compiler, emulator].find((name) =>
    onPath(name) === null
  );
  return {
    arch,
    compiler,
    runner: [emulator, "-L", root],
    missing: missing === undefined ? null : `there is no "${missing}" on the PATH`,
  };
}

/** The path of a program; null if it is missing. */
function onPath(name: string): string | null {
  const folders = (Deno.env.get("PATH") ?? "").split(":");
  return folders.map((folder) => `${folder}/${name}`).find(exists) ?? null;
}
