/**
 * The machine's C compiler, and those for other machines.
 */
import { exists } from "./skip.ts";

/** Where `cc` is, or why it cannot be used. */
export function compiler(): Promise<{ path: string; missing: string | null }> {
  const path = onPath("cc");
  const missing = path === null ? 'there is no C compiler "cc" on the PATH' : null;
  return Promise.resolve({ path: path ?? "cc", missing });
}

/** Why there is no C++ compiler for the kernels of the CUDA stand-in, or null. */
export function missingCxx(): string | null {
  return onPath("c++") === null ? 'there is no C++ compiler "c++" on the PATH' : null;
}

/** Compiler and emulator for the processor that this machine has not got. */
export interface CrossTools {
  /** That processor, as Deno calls it. */
  readonly arch: "x86_64" | "aarch64";
  /** Its C compiler. */
  readonly compiler: string;
  /** The command that runs its programs here. */
  readonly runner: readonly string[];
  /** Why they cannot be used, or null. */
  readonly missing: string | null;
}

/** What builds for both processors, and runs the programs of the other one. */
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

/** Where a program is; null where there is none. */
function onPath(name: string): string | null {
  const folders = (Deno.env.get("PATH") ?? "").split(":");
  return folders.map((folder) => `${folder}/${name}`).find(exists) ?? null;
}
