/**
 * Closes and aborts loads and reads at random moments: of plain files on both engines, and of files on the stand-in for
 * 3FS; with memory that is overwritten when it is freed, or with a native library under AddressSanitizer and
 * UndefinedBehaviorSanitizer. The seed is in the test's name.
 */
import { assert, assertEquals } from "@std/assert";
import { buildShim } from "../../ffi/build.ts";
import { runChild } from "../support/child.ts";
import { compiler } from "../support/compiler.ts";
import { tempFolder, writeShards } from "../support/models.ts";
import { buildStandIn } from "../support/stand_in.ts";
import { makeMount, standInEnv } from "../three_fs/support.ts";

const SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

const { path: cc, missing: noCompiler } = await compiler();
const standIn = await buildStandIn("3fs");

/** The reason that the native engine and 3FS cannot run, or null. */
export const missing = noCompiler ?? standIn.missing;

/** The environment for the shim under AddressSanitizer; memory that Deno leaves at its end is not a leak. */
export async function sanitized(): Promise<Record<string, string>> {
  const { stdout } = await new Deno.Command(cc, { args: ["-print-file-name=libasan.so"] }).output();
  return {
    FASTSAFETENSORS_LIB: await buildShim({ flags: SANITIZERS }),
    LD_PRELOAD: new TextDecoder().decode(stdout).trim(),
    ASAN_OPTIONS: "detect_leaks=0:handle_segv=0:allocator_may_return_null=1",
  };
}

/** Defines a test of `rounds` rounds. */
export function stress(
  rounds: number,
  engine: "native" | "3fs" | "portable",
  seed: number,
  how: string,
  sanitize = false,
): void {
  Deno.test(`${rounds} random ends of loads and reads, seed ${seed} [${engine}, ${how}]`, async () => {
    await using folder = await tempFolder();
    const { path } = folder;
    await makeMount(path);
    await writeShards(
      path,
      [0, 1, 2].map((shard) =>
        [0, 1].map((index) =>
          ({ name: `${shard}.${index}`, dtype: "U8", shape: [1000 + 700 * index, 1003] }) as const
        )
      ),
    );
    const report = `${path}/report.json`;
    const { code, stdout, stderr } = await runChild("stress.ts", {
      flags: ["--allow-all", "--no-check"],
      args: [engine, path, String(rounds), String(seed)],
      env: {
        HOME: Deno.env.get("HOME") ?? "",
        ...engine === "portable" ? {} : { FASTSAFETENSORS_LIB: await buildShim() },
        ...engine === "3fs" && { ...standInEnv(standIn.folder, path), FST_SIM_3FS_REPORT: report },
        ...sanitize ? await sanitized() : { MALLOC_PERTURB_: "165" },
      },
    });
    assertEquals(code, 0, `${stdout}${stderr}`);
    const { done, ended } = JSON.parse(stdout);
    assert(done > rounds / 4 && ended > rounds / 4, `${done} came, ${ended} were ended: too few for a test`);
    if (engine !== "3fs") return;
    const { live, violations } = JSON.parse(await Deno.readTextFile(report));
    assertEquals([live.total, violations.total], [0, 0], "on the stand-in");
  });
}
