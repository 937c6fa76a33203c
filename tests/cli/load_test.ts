import { assert, assertEquals, assertMatch } from "@std/assert";
import { tempFolder, writeShards } from "../support/models.ts";
import { runCli } from "./support.ts";

const SHARDS = [
  [{ name: "a.weight", dtype: "BF16", shape: [64, 64] }, { name: "a.bias", dtype: "F32", shape: [64] }],
  [{ name: "b.weight", dtype: "BF16", shape: [32, 64] }],
] as const;

Deno.test("load prints a summary without a progress bar if stderr is not a terminal", async () => {
  await using folder = await tempFolder();
  const { indexPath } = await writeShards(folder.path, SHARDS);
  const { code, stdout, stderr } = await runCli("load", indexPath, "--repeat", "2");
  assertEquals([code, stderr], [0, ""]);
  assertMatch(
    stdout,
    /^Loaded 3 tensors of 12\.5 kB from 2 files, median of 2 loads: \d\.\d{3} s, \S+ GB\/s, from \S+ GB\/s to \S+ GB\/s\n +to cpu; (buffered|direct|portable), .*; \d threads?\n/,
  );
  const once = await runCli("load", indexPath);
  assertMatch(
    once.stdout,
    /^Loaded 3 tensors of 12\.5 kB from 2 files in \d\.\d{3} s: \S+ GB\/s\n +to cpu; /,
  );
});

Deno.test("load --json prints statistics", async () => {
  await using folder = await tempFolder();
  await writeShards(folder.path, SHARDS);
  const args = ["--json", "--names", "*.weight", "--dtype", "f32", "--threads", "1", "--repeat", "3"];
  const { code, stdout } = await runCli("load", folder.path, ...args);
  assertEquals(code, 0);
  const { seconds, gigabytesPerSecond, runs, notes, path, ...rest } = JSON.parse(stdout);
  assertEquals(rest, {
    files: 2,
    tensors: 2,
    bytes: (64 * 64 + 32 * 64) * 2,
    memoryBytes: (64 * 64 + 32 * 64) * 4,
    dtypes: { BF16: "F32" },
    device: "cpu",
    threads: 1,
    blockBytes: 4 * 2 ** 20,
  });
  assert(runs.length === 3 && seconds === runs.toSorted((a: number, b: number) => a - b)[1]);
  assert(Math.abs(gigabytesPerSecond - rest.bytes / seconds / 1e9) < 1e-9);
  assert(["buffered", "direct", "portable"].includes(path) && Array.isArray(notes));
});

Deno.test("load accepts several files", async () => {
  await using folder = await tempFolder();
  const { paths } = await writeShards(folder.path, SHARDS);
  const { code, stdout } = await runCli("load", ...paths, "--json");
  assertEquals(code, 0);
  assertEquals(JSON.parse(stdout).tensors, 3);
});

Deno.test("load prints dtypes and bytes after a cast, beside the bytes of the files", async () => {
  await using folder = await tempFolder();
  const { paths } = await writeShards(folder.path, SHARDS);
  const { stdout } = await runCli("load", ...paths, "--dtype", "F64");
  assertMatch(stdout, /^Loaded 3 tensors of 12\.5 kB from 2 files /);
  assertMatch(stdout, /\n {2}to cpu, BF16, F32 cast to F64: 49\.7 kB in memory; /);
});
