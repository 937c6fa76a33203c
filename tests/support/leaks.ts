/**
 * Programs that repeat an action, and must not hold more resources at the end than after their warm-up.
 */
import { assert, assertEquals } from "@std/assert";
import { buildShim } from "../../ffi/build.ts";
import { runChild } from "./child.ts";
import { tempFolder } from "./models.ts";

/**
 * The allowed growth in bytes: the allocator reuses all its memory only after a while, on a busy machine later. Leaks of
 * these programs would be hundreds of megabytes.
 */
const MEBIBYTE = 2 ** 20;
const ALLOWED = {
  rss: 160 * MEBIBYTE,
  heapUsed: 2 * MEBIBYTE,
  external: MEBIBYTE,
  descriptors: 0,
  threads: 8,
};

/** Runs a program of tests/children, and fails if it leaks; returns its output. */
export async function assertLeavesNothing(
  program: string,
  engine: "native" | "portable",
  folder: string,
  rounds: number,
): Promise<Record<string, unknown>> {
  await using cache = await tempFolder();
  const { code, stdout, stderr } = await runChild(program, {
    flags: ["-A", "--v8-flags=--expose-gc"],
    args: [engine, folder, String(rounds)],
    env: {
      DENO_DIR: cache.path,
      ...engine === "native" ? { FASTSAFETENSORS_LIB: await buildShim() } : {},
    },
  });
  assertEquals([code, stderr], [0, ""]);
  const printed = JSON.parse(stdout);
  for (const [what, allowed] of Object.entries(ALLOWED)) {
    const before = printed.before[what], after = printed.after[what];
    assert(after - before <= allowed, `${what} grew by ${after - before}, from ${before} to ${after}`);
  }
  return printed;
}
