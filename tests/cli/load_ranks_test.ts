import { assert, assertEquals, assertMatch } from "@std/assert";
import { openLibrary } from "../../ffi/library.ts";
import { findLaunchers, type Launcher } from "../ranks/group/ranks.ts";
import { tempFolder, writeShards } from "../support/models.ts";
import { suite } from "../support/skip.ts";
import { MAIN, runCli, runLineOnTerminal, whyNot } from "./support.ts";

const SHARDS = [
  [{ name: "a.self_attn.q_proj.weight", dtype: "BF16", shape: [64, 64] }, {
    name: "a.bias",
    dtype: "F32",
    shape: [64],
  }],
  [{ name: "b.self_attn.o_proj.weight", dtype: "BF16", shape: [32, 64] }],
] as const;
const BYTES = 64 * 64 * 2 + 64 * 4 + 32 * 64 * 2;

/** The command line of `load` on some ranks. */
function lineOf({ command, args }: Launcher, size: number, ...words: string[]): [string, ...string[]] {
  const program = [Deno.execPath(), "run", "-A", MAIN, "load", "--ranks", ...words];
  return [command, ...args, "-n", `${size}`, ...program];
}

/** Runs `load` on some ranks; returns the output, which must be rank 0's. */
async function load(launcher: Launcher, size: number, ...words: string[]): Promise<string> {
  const [command, ...args] = lineOf(launcher, size, ...words);
  const options = { args, env: { NO_COLOR: "1" } };
  const { code, stdout, stderr } = await new Deno.Command(command, options).output();
  assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
  return new TextDecoder().decode(stdout);
}

Deno.test("load --shard needs --ranks, and rejects unknown plans", async () => {
  for (const words of [["--shard", "0"], ["--ranks", "--shard", "falcon"], ["--ranks", "--shard=-1"]]) {
    const { code, stderr } = await runCli("load", "x", ...words);
    assertEquals(code, 2, stderr);
    assertMatch(stderr, /^error: --shard /);
  }
});

const { found, missing } = findLaunchers();
await openLibrary(); // built once, not by several ranks at the same time

for (const [family, reason] of missing) suite(`load --ranks over ${family}`, "mpi", reason, () => {});
for (const launcher of found) {
  suite(`load --ranks over ${launcher.family}`, "mpi", null, () => {
    Deno.test(`load --ranks over ${launcher.family} prints a summary of all ranks, once`, async () => {
      await using folder = await tempFolder();
      const { indexPath } = await writeShards(folder.path, SHARDS);
      const text = await load(launcher, 2, indexPath, "--repeat", "2");
      assertMatch(
        text,
        /^Loaded 3 tensors of 12\.5 kB on 2 ranks, median of 2 loads: \d\.\d{3} s, .*, from \S+ GB\/s to \S+ GB\/s\n/,
      );
      assertMatch(text, new RegExp(`\n +to cpu over ${launcher.family}; each rank has every tensor`));
      assertMatch(text, /\n +rank 0: 8\.45 kB read, .*; 12\.5 kB in memory\n/);
      assertMatch(text, /\n +rank 1: 4\.10 kB read, .*; 12\.5 kB in memory\n/);
    });

    Deno.test(`load --ranks over ${launcher.family} scatters parts, or each rank reads its own`, async () => {
      await using folder = await tempFolder();
      await writeShards(folder.path, SHARDS);
      const cases = [
        { shard: "1", read: [8192 + 256, 4096], held: (8192 + 4096) / 2 + 256 },
        { shard: "0", read: [8192 + 256, 4096], held: BYTES / 2 },
        { shard: "llama", read: [4096 + 256 + 2048, 4096 + 256 + 2048], held: (8192 + 4096) / 2 + 256 },
      ];
      for (const { shard, read, held } of cases) {
        const report = JSON.parse(await load(launcher, 2, folder.path, "--shard", shard, "--json"));
        assertEquals([report.size, report.tensors, report.bytes], [2, 3, BYTES]);
        assertEquals(report.ranks.map((rank: { rank: number }) => rank.rank), [0, 1]);
        assertEquals(report.ranks.map((rank: { bytesRead: number }) => rank.bytesRead), read);
        assertEquals(report.ranks.map((rank: { bytesHeld: number }) => rank.bytesHeld), [held, held]);
        assert(report.seconds > 0 && report.runs.length === 1);
      }
    });
  });
}

suite("load --ranks on a terminal", "shells", whyNot("script"), () => {
  for (const launcher of found) {
    Deno.test(`load --ranks over ${launcher.family} draws the progress of rank 0 on a terminal only`, async () => {
      await using folder = await tempFolder();
      await writeShards(folder.path, SHARDS);
      const got = await runLineOnTerminal({ NO_COLOR: "1" }, lineOf(launcher, 2, folder.path));
      // The launcher passes stdout and stderr on separately: the summary may come before the end of the progress.
      assertMatch(got, /\r␛\[KLoading █{10,40} 8\.45 kB of 8\.45 kB.*\r␛\[K/s);
      assertMatch(got, /Loaded 3 tensors of 12\.5 kB on 2 ranks/);
      assertEquals(got.includes("4.10 kB of"), false); // rank 1's
      const [command, ...args] = lineOf(launcher, 2, folder.path);
      const redirected = ["sh", "-c", '"$@" 2>/dev/null', "sh", command, ...args];
      assertEquals((await runLineOnTerminal({ NO_COLOR: "1" }, redirected)).includes("␛[K"), false);
    });
  }
});
