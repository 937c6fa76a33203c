import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { explainFirst } from "../../src/cli/demo.ts";
import { setEnv } from "../support/environment.ts";
import { tempFolder } from "../support/models.ts";
import { runCli, startCli } from "./support.ts";

/** During a test, the demo creates its folder below this one. */
async function withTemp<T>(run: (folder: string) => Promise<T>): Promise<T> {
  await using folder = await tempFolder();
  using _ = setEnv({ TMPDIR: folder.path });
  return await run(folder.path);
}

const listed = (folder: string) => [...Deno.readDirSync(folder)].map(({ name }) => name);

Deno.test("demo creates a model, loads it, verifies it and cleans up", async () => {
  await withTemp(async (folder) => {
    const { code, stdout, stderr } = await runCli("demo", "--bytes", "40MB");
    assertEquals([code, stderr], [0, ""]);
    assertMatch(stdout, /^Writing 40\.0 MB of tensors in 4 shards to /);
    const speed = String.raw`\d+\.\d{3} s, \S+ GB\/s`;
    assertMatch(
      stdout,
      new RegExp(`\nLoaded 12 tensors of 40\\.0 MB from 4 files, best of 3 loads: ${speed}\n  to cpu; `),
    );
    assertMatch(stdout, /\n +fastsafetensors +Deno\.readFile\n/);
    for (const row of ["round 1", "round 2", "round 3", "best"]) {
      assertMatch(stdout, new RegExp(`\n  ${row} +${speed}  ${speed}\n`));
    }
    assertMatch(stdout, /\nVerified 12 tensors by SHA-256: every byte equals the written one\n$/);
    assertEquals(listed(folder), []);
  });
});

Deno.test("demo --json prints statistics, for a model of any size", async () => {
  const { code, stdout } = await runCli("demo", "--bytes", "7", "--json");
  assertEquals(code, 0);
  const { files, tensors, bytes, proved, seconds, loads, readFile } = JSON.parse(stdout);
  assertEquals([loads.length, readFile.length, seconds], [3, 3, Math.min(...loads)]);
  assertEquals({ files, tensors, bytes, proved }, { files: 4, tensors: 4, bytes: 7, proved: 4 });
});

Deno.test("explainFirst() explains a first load that took far longer than the best one", () => {
  assertEquals(explainFirst([{ seconds: 2 }, { seconds: 1 }, { seconds: 1.5 }]), []);
  assertEquals(explainFirst([{ seconds: 5.2 }, { seconds: 1 }]), [
    "  The first load took 5.2 times as long as the best one: the machine was slow to provide memory that was not in " +
    "use before",
  ]);
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.test(`demo cleans up after ${signal}, and ends by it`, async () => {
    await withTemp(async (folder) => {
      const child = startCli("demo", "--bytes", "4GB");
      const deadline = performance.now() + 30_000;
      // It handles signals from its first write on.
      while (listed(folder).length === 0 || listed(`${folder}/${listed(folder)[0]!}`).length === 0) {
        assert(performance.now() < deadline, "The demo did not begin to write");
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      child.kill(signal);
      const { signal: endedBy, stderr } = await child.output();
      assertEquals(endedBy, signal);
      assertStringIncludes(new TextDecoder().decode(stderr), "error: Interrupted");
      assertEquals(listed(folder), []);
    });
  });
}
