/**
 * The benchmark of storage with latency: its figures, its file system, and a short run.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { BYTES_UNIT, LatencyFileSystem } from "../../bench/latency/file_system.ts";
import { evaluate, verdict } from "../../bench/latency/report.ts";
import { tempFolder } from "../../bench/temp_folder.ts";
import { compiler } from "../support/compiler.ts";
import { suite } from "../support/skip.ts";

const seconds = (...values: number[]) => values.map((value) => ({ seconds: value }));

Deno.test("evaluate() pairs each run with the probe's best variant in the same turn", () => {
  const results = evaluate(
    new Map([
      [{ name: "slow probe", role: "probe" }, seconds(3, 3, 3)],
      [{ name: "probe", role: "probe" }, seconds(1, 2, 1)],
      [{ name: "16 requests", role: "few requests" }, seconds(4, 4, 8)],
      [{ name: "this loader", role: "this" }, seconds(2, 8, 5)],
    ]),
    6e9,
  );
  assertEquals(
    results.map(({ ofProbe, timesFew, gigabytesPerSecond }) => [ofProbe, timesFew, gigabytesPerSecond]),
    [
      [{ median: 1 / 3, least: 1 / 3, most: 2 / 3 }, { median: 4 / 3, least: 4 / 3, most: 8 / 3 }, 2],
      [{ median: 1, least: 1, most: 1 }, { median: 4, least: 2, most: 8 }, 6],
      [{ median: 0.25, least: 0.125, most: 0.5 }, { median: 1, least: 1, most: 1 }, 1.5],
      [{ median: 0.25, least: 0.2, most: 0.5 }, { median: 1.6, least: 0.5, most: 2 }, 1.2],
    ],
  );
});

Deno.test("verdict() says that figures show nothing if the probe is less than 3 times as fast", () => {
  const said = (few: number) =>
    verdict(evaluate(
      new Map([
        [{ name: "probe", role: "probe" }, seconds(1)],
        [{ name: "16 requests", role: "few requests" }, seconds(few)],
      ]),
      1,
    ));
  assertStringIncludes(said(2.9), "These figures show nothing: the probe is 2.9 ×");
  assertStringIncludes(said(3), "These figures count: the probe is 3.0 ×");
});

async function missingMount(folder: string): Promise<string | null> {
  const { missing } = await compiler();
  if (missing !== null) return missing;
  const fs = await LatencyFileSystem.build(folder, BYTES_UNIT);
  return await fs.run(0, "true", []).then(() => null, (error) => error.message);
}

const folder = tempFolder();

suite("The file system with latency", "mounts", await missingMount(folder), () => {
  Deno.test("latency_fs serves shards whose bytes follow the formula", async () => {
    const out = await Deno.makeTempDir({ dir: folder });
    const fs = await LatencyFileSystem.build(out, BYTES_UNIT);
    const script = `i=0; for file; do cat "$file" > "${out}/$i"; i=$((i + 1)); done`;
    await fs.run(0, "sh", ["-c", script, "sh", ...fs.files]);
    for (const shard of [0, 1, 2, 3]) {
      const bytes = await Deno.readFile(`${out}/${shard}`);
      const view = new DataView(bytes.buffer);
      assertEquals(bytes.byteLength, 4096 + 2 ** 24);
      assertEquals(view.getBigUint64(0, true), 4088n);
      assertEquals(JSON.parse(new TextDecoder().decode(bytes.subarray(8, 4096))), {
        [`shard_${shard}.layer_0000.weight`]: {
          dtype: "BF16",
          shape: [2048, 4096],
          data_offsets: [0, 2 ** 24],
        },
      });
      for (const repetition of [1, 2, 67]) {
        // The published first values of splitmix64 with the seed 0.
        const at = repetition * 61 * 4096 - shard * 4096;
        assertEquals([0, 8, 16].map((step) => view.getBigUint64(at + step, true)), [
          0xE220A8397B1DCDAFn,
          0x6E789E6AA1B965F4n,
          0x06C45D188009454Fn,
        ]);
      }
    }
  });

  Deno.test("latency_fs ends with its command's status", async () => {
    const { code } = await new Deno.Command(`${folder}/latency_fs`, {
      args: ["-b", String(2 ** 24), `${folder}/mount`, "sh", "-c", "exit 7"],
    }).output();
    assertEquals(code, 7);
  });

  Deno.test("latency_fs leaves no mount and no process behind when it is killed", async () => {
    const mount = await Deno.makeTempDir({ dir: folder });
    const tenHours = String(36_000_000);
    const child = new Deno.Command(`${folder}/latency_fs`, {
      args: [
        ...["-d", tenHours, "-b", String(2 ** 24), mount],
        ...["sh", "-c", `echo waiting; exec cat "${mount}/shard_0.safetensors"`],
      ],
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const reader = child.stdout.getReader();
    assertEquals(new TextDecoder().decode((await reader.read()).value), "waiting\n");
    child.kill("SIGKILL");
    // The pipe ends when the last process that writes to it ends.
    assert((await reader.read()).done);
    await child.status;
    assert(!(await Deno.readTextFile("/proc/self/mountinfo")).includes(mount));
    await Deno.remove(mount);
  });

  Deno.test("bench:latency compares on the mounted files, and rejects invalid options", async () => {
    const run = async (...args: string[]) => {
      const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", new URL("../../bench/latency.ts", import.meta.url).pathname, ...args],
        env: { NO_COLOR: "1" },
        stdin: "null",
      }).output();
      const decoder = new TextDecoder();
      return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
    };
    const out = `${folder}/latency.json`;
    const { code, stdout, stderr } = await run(
      ...["--bytes", "64MiB", "--delays", "0,1", "--turns", "1", "--request", "1MiB", "--out", out],
    );
    assertEquals(code, 0, stderr);
    for (const part of ["\n0 MS\n", "\n1 MS\n", "this loader", "These figures"]) {
      assertStringIncludes(stdout, part);
    }
    const { results } = JSON.parse(await Deno.readTextFile(out));
    for (const delay of ["0", "1"]) {
      const roles = results[delay].map(({ role }: { role: string }) => role);
      assertEquals([...new Set(roles)], ["probe", "few requests", "this"]);
    }
    for (
      const args of [["--delays", "soon"], ["--bytes", "1MiB"], ["--request", "1000"], ["file.safetensors"]]
    ) {
      const { code, stderr } = await run(...args);
      assertEquals(code, 2, stderr);
      assertStringIncludes(stderr, "Usage: deno task bench:latency");
    }
  });
});
