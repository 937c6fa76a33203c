import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { runCli } from "./support.ts";

Deno.test("doctor prints what it finds", async () => {
  const { code, stdout } = await runCli("doctor");
  assertEquals(code, 0);
  assertMatch(stdout, /^System +\S+ \S+, \d+ cores\nDeno +\d+\.\d+\.\d+\nEngine +(native|portable): /);
});

Deno.test("doctor --json prints the report", async () => {
  const { code, stdout } = await runCli("doctor", "--json");
  assertEquals(code, 0);
  const report = JSON.parse(stdout);
  assertEquals([report.deno, report.system], [Deno.version.deno, `${Deno.build.os} ${Deno.build.arch}`]);
  assertEquals(Array.isArray(report.remedies), true);
});

Deno.test("doctor says what to do on a machine without a compiler", async () => {
  const before = { PATH: Deno.env.get("PATH")!, XDG_CACHE_HOME: Deno.env.get("XDG_CACHE_HOME") };
  const cache = await Deno.makeTempDir({ prefix: "fastsafetensors-test-" });
  Deno.env.set("PATH", "/nowhere");
  Deno.env.set("XDG_CACHE_HOME", cache);
  try {
    const { code, stdout } = await runCli("doctor");
    assertEquals(code, 0);
    assertStringIncludes(stdout, "portable");
    assertStringIncludes(stdout, "- Install a C compiler");
  } finally {
    Deno.env.set("PATH", before.PATH);
    if (before.XDG_CACHE_HOME === undefined) Deno.env.delete("XDG_CACHE_HOME");
    else Deno.env.set("XDG_CACHE_HOME", before.XDG_CACHE_HOME);
    await Deno.remove(cache, { recursive: true });
  }
});
