/**
 * The steps of a GPU day, in their order, and what each needs.
 */
import { type Ended, findTool } from "./run.ts";
import type { StepResult, TestCounts } from "./results.ts";

const ROOT = new URL("../../", import.meta.url).pathname;

/** What the steps know of the machine and of the run. */
export interface Day {
  /** An empty folder that is removed at the end. */
  readonly work: string;
  /** Whether stand-ins take the place of the GPU, and everything is short. */
  readonly isRehearsal: boolean;
  /** Bytes of the model that is loaded. */
  readonly bytes: number;
  /** The reason that CUDA cannot be used; null if it can. */
  readonly missingCuda: string | null;
  /** The reason that WebGPU has no GPU; null if it has one. */
  readonly missingWebGpu: string | null;
}

/** What a step's command has shown. */
export type Verdict = Pick<StepResult, "status" | "reason" | "tests" | "lines" | "figures">;

/** A step. */
export interface Step {
  readonly name: string;
  readonly title: string;
  readonly limitSeconds: number;
  /** What keeps this machine from the step; null if nothing does. */
  readonly missing?: (day: Day) => string | null;
  /** The command lines: the next one runs if the step has no use for what an earlier one showed. */
  readonly commands: (day: Day) => readonly (readonly string[])[];
  /** Reads the result; null lets the next command run. */
  readonly read: (ended: Ended, day: Day) => Verdict | null | Promise<Verdict | null>;
}

/** `deno run` of a module of the package. */
function program(path: string, ...args: readonly string[]): string[] {
  return [Deno.execPath(), "run", "-A", "--no-check", ROOT + path, ...args];
}

/** The tests of files or folders. */
function tests(...args: readonly string[]): string[] {
  return program("tests/run.ts", ...args.map((arg) => arg.startsWith("-") ? arg : ROOT + arg));
}

const needsCuda = (day: Day) => day.missingCuda;
const needsWebGpu = (day: Day) => day.missingWebGpu;

/** All steps; their limits are 8 minutes together. */
export const STEPS: readonly Step[] = [
  {
    name: "doctor",
    title: "What the machine has",
    limitSeconds: 30,
    commands: () => [program("src/cli/mod.ts", "doctor", "--json")],
    read: (ended) => ({ ...verdictOf(ended), ...ended.code === 0 && { figures: JSON.parse(ended.stdout) } }),
  },
  {
    name: "cuda-tests",
    title: "The CUDA tests",
    limitSeconds: 80,
    missing: needsCuda,
    commands: ({ isRehearsal }) => [
      isRehearsal
        ? tests("tests/cuda/tensors_test.ts")
        : tests("tests/cuda/", "tests/cuda/load_suite_long_test.ts"),
    ],
    read: readTests,
  },
  {
    name: "stress",
    title: "Disposing, closing and aborting at random moments, under compute-sanitizer",
    limitSeconds: 35,
    missing: needsCuda,
    commands: (day) => {
      const sanitizer = findTool("compute-sanitizer");
      const line = program("tests/cuda/stress_program.ts", day.isRehearsal ? "1" : "10");
      const watched = [sanitizer ?? "", "--tool", "memcheck", "--error-exitcode", "9", ...line];
      return sanitizer === null ? [line] : [watched, line];
    },
    read: readStress,
  },
  {
    name: "bench",
    title: "Loading to the GPU beside the peers",
    limitSeconds: 215,
    missing: needsCuda,
    commands: ({ work, bytes, isRehearsal }) => [
      program(
        "bench/gpu.ts",
        ...["--bytes", `${bytes}`, "--turns", isRehearsal ? "1" : "2", "--cold-turns", "1"],
        ...[
          "--dir",
          `${work}/model`,
          "--out",
          `${work}/bench.json`,
          ...isRehearsal ? ["--state", "hot"] : [],
        ],
      ),
    ],
    read: (ended, { work }) => readBench(ended, `${work}/bench.json`),
  },
  {
    name: "torch",
    title: "DLPack to PyTorch",
    limitSeconds: 20,
    missing: needsCuda,
    commands: (
      { isRehearsal },
    ) => [program("tests/cuda/dlpack_program.ts", "torch", ...isRehearsal ? ["cpu"] : [])],
    read: readLines,
  },
  {
    name: "cupy",
    title: "DLPack to CuPy",
    limitSeconds: 15,
    missing: needsCuda,
    commands: () => [program("tests/cuda/dlpack_program.ts", "cupy")],
    read: readLines,
  },
  {
    name: "mpi",
    title: "MPI with device memory, 2 ranks on one GPU",
    limitSeconds: 20,
    missing: needsCuda,
    commands: () => [
      tests("tests/ranks/device_long_test.ts", "--filter=/to one device over|Loading over (Open MPI|MPICH)/"),
    ],
    read: readTests,
  },
  {
    name: "nccl",
    title: "NCCL, a world of one",
    limitSeconds: 15,
    missing: needsCuda,
    commands: () => [tests("tests/ranks/device_long_test.ts", "--filter=/a rank alone|Loading over NCCL/")],
    read: readTests,
  },
  {
    name: "webgpu-tests",
    title: "The WebGPU tests, on the GPU through Vulkan",
    limitSeconds: 30,
    missing: needsWebGpu,
    commands: ({ isRehearsal }) => [tests(isRehearsal ? "tests/webgpu/tensors_test.ts" : "tests/webgpu/")],
    read: readTests,
  },
  {
    name: "webgpu-bench",
    title: "Loading to WebGPU",
    limitSeconds: 20,
    missing: needsWebGpu,
    commands: ({ work, isRehearsal }) => [
      program(
        "bench/webgpu.ts",
        ...["--bytes", isRehearsal ? "16MB" : "512MB", "--turns", isRehearsal ? "1" : "2"],
        ...["--out", `${work}/webgpu.json`],
      ),
    ],
    read: (ended, { work }) => readBench(ended, `${work}/webgpu.json`),
  },
];

/** By the status alone. */
function verdictOf({ code, isStopped, stderr }: Ended): Verdict {
  if (isStopped) return { status: "stopped", reason: "its time ran out" };
  if (code === 0) return { status: "passed", reason: null };
  return { status: "failed", reason: stderr.trim().split("\n").at(-1) || `status ${code}` };
}

/** The output of tests/run.ts, also of one that was stopped: it prints a line for each file. */
function readTests(ended: Ended): Verdict {
  let passed = 0, failed = 0, unnamed = 0;
  for (const [, ok, bad, skip] of ended.stdout.matchAll(FILE_LINE)) {
    passed += Number(ok);
    failed += Number(bad);
    unnamed += Number(skip);
  }
  const listed = ended.stdout.split("\nSkipped:\n")[1]?.split("\n\n")[0]?.split("\n") ?? [];
  const skipped = listed.length > 0
    ? listed.map((line) => line.trim().replace(/^\S+: /, ""))
    : Array.from({ length: unnamed }, () => "a test that was skipped");
  const tests: TestCounts = { passed, failed, skipped };
  if (failed > 0) return { ...verdictOf(ended), status: "failed", reason: `${failed} tests failed`, tests };
  const verdict = verdictOf(ended);
  if (verdict.status !== "passed" || passed > 0) return { ...verdict, tests };
  return { status: "missing", reason: skipped.join("; ") || "no test ran", tests };
}

const FILE_LINE = /^(?:ok|FAILED) {2}\S+: (\d+) passed, (\d+) failed, (\d+) skipped/gm;

/** compute-sanitizer works on some machines only; elsewhere the program runs without it. */
function readStress(ended: Ended): Verdict | null {
  const isWatched = ended.command !== Deno.execPath();
  const lines = ended.stdout.split("\n").filter((line) => /copies compared|ERROR SUMMARY/.test(line));
  const isConclusive = ended.isStopped || /copies compared|ERROR SUMMARY: [1-9]/.test(ended.stdout);
  if (isWatched && !isConclusive) return null;
  const without = findTool("compute-sanitizer") === null
    ? 'without compute-sanitizer: it is not on the PATH nor in "/usr/local/cuda/bin"'
    : "without compute-sanitizer: it cannot watch a program on this machine";
  const verdict = verdictOf(ended);
  return { ...verdict, reason: verdict.reason ?? (isWatched ? null : without), lines };
}

/** A benchmark: it writes its figures after every turn. */
async function readBench(ended: Ended, path: string): Promise<Verdict> {
  const lines = ended.stderr.split("\n").filter((line) => line.startsWith("warning: "));
  const figures = await Deno.readTextFile(path).then(JSON.parse, () => undefined);
  const verdict = verdictOf(ended);
  return { ...verdict, lines, ...figures === undefined ? {} : { figures } };
}

function readLines(ended: Ended): Verdict {
  const lines = ended.stdout.trim().split("\n").filter((line) => line !== "");
  const missing = lines.find((line) => line.startsWith("missing: "));
  if (missing !== undefined) return { status: "missing", reason: missing.slice("missing: ".length) };
  return { ...verdictOf(ended), lines };
}
