/**
 * The GPU day's steps, its limits, and its page, from results that are written down.
 */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { dayComparisons, dayPage } from "../../bench/gpu_day/page.ts";
import type { GpuDay } from "../../bench/gpu_day/results.ts";
import { type Ended, runWithin } from "../../bench/gpu_day/run.ts";
import { type Day, STEPS } from "../../bench/gpu_day/steps.ts";
import { noise, tempFolder, tensorLength, writeFile } from "../support/models.ts";
import { findPython } from "../support/python.ts";
import { suite } from "../support/skip.ts";

const DAY: Day = {
  work: "/nowhere",
  isRehearsal: false,
  bytes: 1e9,
  missingCuda: null,
  missingWebGpu: null,
};

function step(name: string) {
  return STEPS.find((step) => step.name === name)!;
}

function ended(more: Partial<Ended>): Ended {
  return { command: Deno.execPath(), code: 0, isStopped: false, stdout: "", stderr: "", ...more };
}

Deno.test("the limits of all steps are 8 minutes together", () => {
  assertEquals(STEPS.reduce((sum, { limitSeconds }) => sum + limitSeconds, 0), 480);
});

Deno.test("a step for CUDA is missing on a machine without it, with the reason", () => {
  const day = { ...DAY, missingCuda: "there is no GPU" };
  const missing = STEPS.filter((step) => step.missing?.(day) === "there is no GPU").map(({ name }) => name);
  assertEquals(missing, ["cuda-tests", "stress", "bench", "torch", "cupy", "mpi", "nccl"]);
});

Deno.test("tests that were stopped count by file, and skipped ones are a missing step with their reasons", async () => {
  const lines =
    "ok  a_test.ts: 3 passed, 0 failed, 1 skipped (1.0 s)\nok  b_test.ts: 2 passed, 0 failed, 0 skipped (1.0 s)\n";
  const stopped = await step("cuda-tests").read(ended({ code: 124, isStopped: true, stdout: lines }), DAY);
  assertEquals([stopped!.status, stopped!.tests!.passed, stopped!.tests!.skipped.length], ["stopped", 5, 1]);
  const skipped = "ok  a_test.ts: 0 passed, 0 failed, 1 skipped (0.1 s)\n\nSkipped:\n" +
    "  a_test.ts: Loading over NCCL is skipped: there is no libnccl\n\nok | 0 passed | 0 failed | 1 ignored (0.0 minutes)\n";
  const missing = await step("nccl").read(ended({ stdout: skipped }), DAY);
  assertEquals([missing!.status, missing!.reason], [
    "missing",
    "Loading over NCCL is skipped: there is no libnccl",
  ]);
  const bad = "FAILED  a_test.ts: 3 passed, 2 failed, 0 skipped (1.0 s)\n";
  const failed = await step("mpi").read(ended({ code: 1, stdout: bad }), DAY);
  assertEquals([failed!.status, failed!.reason], ["failed", "2 tests failed"]);
});

Deno.test("the stress step runs again without a compute-sanitizer that cannot watch, and fails by one that finds errors", async () => {
  const { read } = step("stress");
  const watched = { command: "/x/compute-sanitizer" };
  const unusable = "========= Error: Device not supported\n========= ERROR SUMMARY: 0 errors\n";
  assertEquals(await read(ended({ ...watched, code: 1, stdout: unusable }), DAY), null);
  const found = "========= Invalid __global__ write\n========= ERROR SUMMARY: 2 errors\n";
  const failed = await read(ended({ ...watched, code: 9, stdout: found, stderr: "it failed\n" }), DAY);
  assertEquals([failed!.status, failed!.lines], ["failed", ["========= ERROR SUMMARY: 2 errors"]]);
});

Deno.test("a library that Python lacks is a missing step", async () => {
  const verdict = await step("cupy").read(ended({ stdout: "missing: No module named 'cupy'\n" }), DAY);
  assertEquals(verdict, { status: "missing", reason: "No module named 'cupy'" });
});

Deno.test("a benchmark that was stopped keeps the figures that it had written", async () => {
  await using folder = await tempFolder();
  await Deno.writeTextFile(`${folder.path}/bench.json`, '{"turns":1}');
  const stopped = ended({ code: 137, isStopped: true, stderr: "warning: x does not take part: y\n" });
  const verdict = await step("bench").read(stopped, { ...DAY, work: folder.path });
  assertEquals(verdict, {
    status: "stopped",
    reason: "its time ran out",
    lines: ["warning: x does not take part: y"],
    figures: { turns: 1 },
  });
});

Deno.test("runWithin() ends a command whose time runs out, and keeps what was printed", async () => {
  await using folder = await tempFolder();
  // The time of `timeout`, the parent, runs out when the command says so, once the parent waits for the command: SIGALRM
  // is the signal of its own clock.
  const waits = "until grep -q '^State:.S' /proc/$PPID/status; do :; done";
  const script = `echo before; ${waits}; kill -ALRM $PPID; sleep 1000 & wait`;
  const stopped = await runWithin(600, ["sh", "-c", script], folder.path, {});
  assertEquals([stopped.isStopped, stopped.stdout], [true, "before\n"]);
  const { code, isStopped, stderr } = await runWithin(60, ["sh", "-c", "echo $X >&2; exit 3"], folder.path, {
    X: "y",
  });
  assertEquals([code, isStopped, stderr], [3, false, "y\n"]);
  await assertRejects(() => runWithin(1, ["true"], `${folder.path}/missing`, {}), Deno.errors.NotFound);
});

const RESULT = { seconds: [], beyondDestination: null, stall: null, ways: [], spread: null };

/** A day on a made-up GPU. */
const MADE_UP: GpuDay = {
  made: "2026-05-04T03:02:01.000Z",
  machine: { processor: "Abacus 1", cores: 2, memory: 8e9, kernel: "6.1.0-x" },
  isRehearsal: false,
  limitSeconds: 480,
  seconds: 300.4,
  steps: [
    { name: "doctor", title: "Doctor", status: "passed", reason: null, seconds: 1, limitSeconds: 30 },
    {
      name: "bench",
      title: "Loads",
      status: "passed",
      reason: null,
      seconds: 99.96,
      limitSeconds: 170,
      figures: {
        made: "2026-05-04T03:02:01.000Z",
        machine: { processor: "Abacus 1", cores: 2, memory: 8e9, kernel: "6.1.0-x" },
        turns: 2,
        gpu: { name: "Abacus GPU" },
        data: { files: 4, bytes: 4e9 },
        results: {
          hot: [
            {
              ...RESULT,
              name: "limit: copy",
              limit: "copy",
              median: 0.1,
              gigabytesPerSecond: 40,
              ofLimit: 1,
            },
            {
              ...RESULT,
              name: "limit: read",
              limit: "read",
              median: 0.2,
              gigabytesPerSecond: 20,
              ofLimit: 1,
            },
            {
              ...RESULT,
              name: "this loader",
              limit: null,
              median: 0.25,
              gigabytesPerSecond: 16,
              ofLimit: 0.8,
            },
          ],
        },
      },
    },
    {
      name: "mpi",
      title: "MPI | two",
      status: "failed",
      reason: "2 tests failed",
      seconds: 3,
      limitSeconds: 25,
      tests: { passed: 3, failed: 2, skipped: [] },
      output: "one\n```\n",
    },
  ],
};

Deno.test("the page has a row for each step, the figures, and the output of what failed", () => {
  const page = dayPage(MADE_UP);
  assertStringIncludes(
    page,
    "No GPU; 2026-05-04, Abacus 1, 2 cores, 8.00 GB of memory, Linux 6.1. 2 of 3 steps passed, in 300 seconds.",
  );
  assertStringIncludes(page, "| Loads | passed | 100.0 |  |");
  assertStringIncludes(page, "| failed | 3.0 | 2 tests failed; 3 passed, 2 failed, 0 skipped |");
  assertStringIncludes(page, "## Loading 4.00 GB in 4 files to a GPU: Abacus GPU");
  assertStringIncludes(page, "| the machine's limit | 20.00 | 1.00 |\n| **this loader** | 16.00 | 0.80 |");
  assertStringIncludes(page, "    one\n    ```");
  assertEquals(page.includes("rehearsal"), false);
});

Deno.test("the figures of a day are comparisons for the documentation", () => {
  assertEquals(dayComparisons(MADE_UP).map(({ name, panels }) => [name, panels.map(({ limit }) => limit)]), [
    ["gpu", [20]],
  ]);
});

const DTYPES = [
  "BOOL",
  "U8",
  "I8",
  "I16",
  "I32",
  "I64",
  "F8_E4M3",
  "F8_E5M2",
  "F16",
  "BF16",
  "F32",
  "F64",
  "C64",
] as const;

suite("The peers on a GPU", "python", (await findPython("numpy, torch")).missing, () => {
  Deno.test("the files of torch.load have the bytes of the tensors, for every dtype", async () => {
    await using folder = await tempFolder();
    const path = `${folder.path}/model.safetensors`;
    const specs = DTYPES.map((dtype) => {
      const shape = [3, 5];
      const bytes = dtype === "BOOL" ? new Uint8Array(15).fill(1) : noise(tensorLength({ dtype, shape }), 1);
      return { name: dtype, dtype, shape, bytes };
    });
    await writeFile(path, specs, { misalignment: 3 });
    const peers = new URL("../../bench/gpu/peers.py", import.meta.url).pathname;
    const read = `import torch
for name, tensor in torch.load(${JSON.stringify(`${path}.pt`)}).items():
    print(name, list(tensor.shape), tensor.reshape(-1).view(torch.uint8).numpy().tobytes().hex())`;
    let printed = "";
    for (const args of [[peers, "save", path], ["-c", read]]) {
      const { code, stdout, stderr } = await new Deno.Command("python3", { args }).output();
      assertEquals(code, 0, new TextDecoder().decode(stderr));
      printed = new TextDecoder().decode(stdout);
    }
    assertEquals(
      printed.trim().split("\n").sort(),
      specs.map(({ name, bytes }) => `${name} [3, 5] ${bytes.toHex()}`).sort(),
    );
  });
});
