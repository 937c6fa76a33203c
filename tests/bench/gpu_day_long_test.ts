/**
 * A rehearsal of the GPU day: the archive is made, unpacked into an empty folder and started with an empty home and no
 * network, on the stand-ins for CUDA and NCCL.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import type { GpuDay } from "../../bench/gpu_day/results.ts";
import { STEPS } from "../../bench/gpu_day/steps.ts";
import { compiler, missingCxx } from "../support/compiler.ts";
import { tempFolder } from "../support/models.ts";
import { suite } from "../support/skip.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const decoder = new TextDecoder();

/** Starts a program in a network of its own, with nothing but its loopback, over which ranks meet. */
const ALONE = 'mount -t sysfs none /sys && echo 9 > /sys/class/net/lo/flags && exec "$@"';

/** The command prefix of a process without a network; without the right to one, a proxy that nobody answers as. */
function withoutNetwork(): { prefix: string[]; env: Record<string, string> } {
  const [unshare, ...args] = ["unshare", "--net", "--mount", "sh", "-c", ALONE, "sh"] as const;
  try {
    const { success } = new Deno.Command(unshare, { args: [...args, "true"], stderr: "null" }).outputSync();
    if (success) return { prefix: [unshare, ...args], env: {} };
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return { prefix: ["env"], env: { HTTP_PROXY: "http://127.0.0.1:9", HTTPS_PROXY: "http://127.0.0.1:9" } };
}

async function run(line: readonly string[], options: Deno.CommandOptions = {}): Promise<string> {
  const command = new Deno.Command(line[0]!, { ...options, args: line.slice(1) });
  const { code, stdout, stderr } = await command.output();
  const printed = decoder.decode(stdout) + decoder.decode(stderr);
  assertEquals(code, 0, `${line.join(" ")}:\n${printed}`);
  return printed;
}

suite("The GPU day", "native", (await compiler()).missing ?? missingCxx(), () => {
  Deno.test("the archive runs all steps on stand-ins without Deno, home and network of its own", async () => {
    await using folder = await tempFolder();
    const { path } = folder;
    const archive = `${path}/gpu-day.tar.gz`;
    await run([Deno.execPath(), "run", "-A", `${ROOT}bench/gpu_day.ts`, "--pack", "--out", archive]);
    const { size } = await Deno.stat(archive);
    assert(size <= 60 * 2 ** 20, `the archive has ${size} bytes`);

    // A tool that the machine may have: this one starts the program, and says what the real one says.
    await Deno.mkdir(`${path}/tools`);
    const sanitizer = '#!/bin/sh\nshift 4\n"$@" && echo "========= ERROR SUMMARY: 0 errors"\n';
    await Deno.writeTextFile(`${path}/tools/compute-sanitizer`, sanitizer, { mode: 0o755 });
    await Deno.mkdir(`${path}/home`);
    await Deno.mkdir(`${path}/there`);
    await run(["tar", "-C", `${path}/there`, "-xzf", archive]);
    const { prefix, env } = withoutNetwork();
    await run([...prefix, `${path}/there/gpu-day/start.sh`, "--stand-ins", "--out", `${path}/results`], {
      cwd: `${path}/home`,
      clearEnv: true,
      env: { PATH: `${path}/tools:${Deno.env.get("PATH")}`, HOME: `${path}/home`, ...env },
    });

    const day: GpuDay = JSON.parse(await Deno.readTextFile(`${path}/results/gpu_day.json`));
    assertEquals(day.isRehearsal, true);
    const results = Object.fromEntries(day.steps.map((step) => [step.name, step]));
    assertEquals(day.steps.map(({ name }) => name), STEPS.map(({ name }) => name));
    for (const { name, status, reason, output } of day.steps) {
      assert(status === "passed" || status === "missing", `${name} ${status}: ${reason}\n${output}`);
      assert(status === "passed" || reason !== null, `${name} has no reason`);
    }
    // What needs nothing beyond the archive and the stand-ins is never missing.
    for (const name of ["doctor", "cuda-tests", "stress", "bench", "nccl"]) {
      assertEquals(results[name]!.status, "passed", name);
    }
    assert(results["cuda-tests"]!.tests!.passed >= 8, "fewer CUDA tests than expected");
    assertEquals(results["nccl"]!.tests!.passed, 1);
    assertStringIncludes(results["stress"]!.lines!.join("\n"), "ERROR SUMMARY: 0 errors");
    assertEquals(results["stress"]!.reason, null);
    const page = await Deno.readTextFile(`${path}/results/gpu_day.md`);
    assertStringIncludes(page, "A rehearsal on stand-ins");
    assertStringIncludes(page, "| **this loader** |");
    for (const { title } of STEPS) assertStringIncludes(page, `| ${title} |`);
  });
});
