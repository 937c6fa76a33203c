/**
 * The benchmark of loading from a server: its figures, its server, and a short run.
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { evaluate } from "../../bench/network/report.ts";
import { NetworkTools } from "../../bench/network/server.ts";
import { tempFolder } from "../../bench/temp_folder.ts";
import { missingCurl } from "../files/native_http_support.ts";
import { compiler } from "../support/compiler.ts";
import { useNativeEngine } from "../support/engine.ts";
import { noise } from "../support/models.ts";
import { suite } from "../support/skip.ts";

Deno.test("evaluate() pairs each run with the best C program's of the same turn, and keeps the most memory", () => {
  const seconds = (...values: number[]) =>
    values.map((value) => ({ seconds: value, beyondDestination: 10 * value }));
  const results = evaluate(
    new Map([
      [{ name: "slow", role: "probe" }, seconds(3, 3, 3)],
      [{ name: "fast", role: "probe" }, seconds(1, 2, 1)],
      [{ name: "own", role: "own source" }, seconds(8, 8, 8)],
      [{ name: "this", role: "this" }, seconds(2, 2, 4)],
    ]),
    6e9,
  );
  const { ofProbe, timesOwn, gigabytesPerSecond, beyond } = results[3]!;
  assertEquals(ofProbe, { median: 0.5, least: 0.25, most: 1 });
  assertEquals(timesOwn, { median: 4, least: 2, most: 4 });
  assertEquals([gigabytesPerSecond, beyond], [3, 40]);
});

const missing = await useNativeEngine() ?? await missingCurl() ?? (await compiler()).missing;

suite("The benchmark of loading from a server", "native", missing, () => {
  const folder = tempFolder();

  Deno.test("the server of the benchmark answers ranges, whole files and names that it does not have", async () => {
    const bytes = noise(300_000, 5);
    await Deno.writeFile(`${folder}/x`, bytes);
    const tools = await NetworkTools.build(folder);
    await using server = await tools.serve(folder, 0);
    const part = await fetch(server.url("x"), { headers: { range: "bytes=1000-200999" } });
    assertEquals([part.status, part.headers.get("content-range")], [206, "bytes 1000-200999/300000"]);
    assertEquals(await part.bytes(), bytes.slice(1000, 201_000));
    assertEquals(await (await fetch(server.url("x"))).bytes(), bytes);
    const none = await fetch(server.url("none"));
    assertEquals(none.status, 404);
    await none.body?.cancel();
  });

  Deno.test("bench:network compares, and rejects invalid options", async () => {
    const run = async (...args: string[]) => {
      const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: [
          "run",
          "-A",
          "--no-check",
          new URL("../../bench/network.ts", import.meta.url).pathname,
          ...args,
        ],
        env: { NO_COLOR: "1" },
        stdin: "null",
      }).output();
      const decoder = new TextDecoder();
      return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
    };
    const out = `${folder}/network.json`;
    const { code, stdout, stderr } = await run(
      ...["--bytes", "16MiB", "--delays", "0", "--turns", "1", "--connections", "4", "--out", out],
    );
    assertEquals(code, 0, stderr);
    for (const part of ["\n0 MS OF EACH REQUEST\n", "this loader"]) assertStringIncludes(stdout, part);
    const { results } = JSON.parse(await Deno.readTextFile(out));
    const roles = results["0"].map(({ role }: { role: string }) => role);
    assertEquals([...new Set(roles)], ["probe", "this", "own source"]);
    for (const args of [["--delays", "soon"], ["file.safetensors"]]) {
      const { code, stderr } = await run(...args);
      assertEquals(code, 2, stderr);
      assertStringIncludes(stderr, "Usage: deno task bench:network");
    }
  });
});
