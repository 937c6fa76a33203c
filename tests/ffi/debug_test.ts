/**
 * The debug build: it loads, writes a line for each call, and stops at a misuse.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { buildShim } from "../../ffi/build.ts";
import { DEBUG_FLAGS } from "../../native/tools/debug.ts";
import { runChild } from "../support/child.ts";
import { compiler } from "../support/compiler.ts";
import { tempFolder, writeFile } from "../support/models.ts";
import { suite } from "../support/skip.ts";

const { missing } = await compiler();

suite("The debug build", "native", missing, () => {
  const flags = ["--allow-all", "--no-check"];

  async function environment(): Promise<Record<string, string>> {
    return { HOME: Deno.env.get("HOME") ?? "", FASTSAFETENSORS_LIB: await buildShim({ flags: DEBUG_FLAGS }) };
  }

  Deno.test("the debug build loads, and writes a line for each call and each return", async () => {
    await using folder = await tempFolder();
    const path = `${folder.path}/model.safetensors`;
    await writeFile(path, [{ name: "x", dtype: "U8", shape: [300_000] }]);
    const { code, stdout, stderr } = await runChild("config.ts", {
      flags,
      args: ["fastsafeOpen", path],
      env: await environment(),
      cwd: folder.path,
    });
    assertEquals(code, 0, stderr);
    assertEquals(JSON.parse(stdout).lines, []);
    for (const line of stderr.trimEnd().split("\n")) assertMatch(line, /^fst +\d+\.\d{6} +\d+ {2}\S/);
    for (const name of ["fst_file_open", "fst_lane_run", "fst_file_release"]) {
      const count = (mark: RegExp) => stderr.match(mark)?.length ?? 0;
      const calls = count(new RegExp(`  > ${name}$`, "gm"));
      assert(calls > 0, `${name} is not told of:\n${stderr}`);
      assertEquals(count(new RegExp(`  < ${name}, \\d+\\.\\d{3} ms$`, "gm")), calls);
    }
    assert(!stderr.includes("fst_land"), "what is not exported is told of");
  });

  Deno.test("the debug build stops at an impossible plan", async () => {
    const { code, stdout, stderr } = await runChild("bad_plan.ts", {
      flags,
      args: [],
      env: await environment(),
    });
    const ABORTED = 128 + 6;
    assertEquals([code, stdout], [ABORTED, ""]);
    assertMatch(stderr, /land\.c:\d+: .*Assertion `is_sound\(plan, segment\)' failed/);
  });
});
