/**
 * Closing and aborting at random moments of loads and reads: of plain files on both engines, and of files on the
 * stand-in for 3FS; each also with memory that is overwritten when it is freed, and where
 * `FASTSAFETENSORS_TEST_REQUIRE` lists "sanitizers" with a shim that AddressSanitizer and UndefinedBehaviorSanitizer
 * watch. The seed is in the test's name. Twenty rounds each; 120 where "stress" is listed.
 */
import { assert, assertEquals } from "@std/assert";
import { buildShim } from "../../ffi/build.ts";
import { runChild } from "../support/child.ts";
import { compiler } from "../support/compiler.ts";
import { tempFolder, writeShards } from "../support/models.ts";
import { isRequired, suite } from "../support/skip.ts";
import { buildStandIn } from "../support/stand_in.ts";
import { makeMount, standInEnv } from "../usrbio/support.ts";

const ROUNDS = isRequired("stress") ? 120 : 20;
const LOAD_SUITE = new URL("../load_native_test.ts", import.meta.url).pathname;
const SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

const { path: cc, missing } = await compiler();
const standIn = await buildStandIn("3fs");

/** The environment in which AddressSanitizer watches the shim; what Deno leaves at its end is no leak. */
async function sanitized(): Promise<Record<string, string>> {
  const { stdout } = await new Deno.Command(cc, { args: ["-print-file-name=libasan.so"] }).output();
  return {
    FASTSAFETENSORS_LIB: await buildShim({ flags: SANITIZERS }),
    LD_PRELOAD: new TextDecoder().decode(stdout).trim(),
    ASAN_OPTIONS: "detect_leaks=0:handle_segv=0:allocator_may_return_null=1",
  };
}

function stress(engine: "native" | "3fs" | "portable", seed: number, how: string, sanitize = false): void {
  Deno.test(`${ROUNDS} random ends of loads and reads, seed ${seed} [${engine}, ${how}]`, async () => {
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
      args: [engine, path, String(ROUNDS), String(seed)],
      env: {
        HOME: Deno.env.get("HOME") ?? "",
        ...engine === "portable" ? {} : { FASTSAFETENSORS_LIB: await buildShim() },
        ...engine === "3fs" && { ...standInEnv(standIn.folder, path), FST_SIM_3FS_REPORT: report },
        ...sanitize ? await sanitized() : { MALLOC_PERTURB_: "165" },
      },
    });
    assertEquals(code, 0, `${stdout}${stderr}`);
    const { done, ended } = JSON.parse(stdout);
    assert(done > ROUNDS / 4 && ended > ROUNDS / 4, `${done} came, ${ended} were ended: too few for a test`);
    if (engine !== "3fs") return;
    const { live, violations } = JSON.parse(await Deno.readTextFile(report));
    assertEquals([live.total, violations.total], [0, 0], "on the stand-in");
  });
}

stress("portable", 11, "plain");
suite("random ends of loads and reads", "native", missing ?? standIn.missing, () => {
  stress("native", 12, "freed memory overwritten");
  stress("3fs", 13, "freed memory overwritten");
  const unasked = isRequired("sanitizers") ? null : "FASTSAFETENSORS_TEST_REQUIRE does not list sanitizers";
  suite("random ends of loads and reads under sanitizers", "sanitizers", unasked, () => {
    stress("native", 14, "sanitizers", true);
    stress("3fs", 15, "sanitizers", true);
    Deno.test("loads of the suite that are ended at random moments [native, sanitizers]", async () => {
      const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["test", "-A", "--no-check", "--filter", "random moments", LOAD_SUITE],
        env: { NO_COLOR: "1", ...await sanitized() },
      }).output();
      const printed = new TextDecoder().decode(new Uint8Array([...stdout, ...stderr]));
      assert(success && printed.includes("ok | 1 passed"), printed.slice(-20_000));
    });
  });
});
