/**
 * The GPU day: one command of at most 8 minutes that proves and measures everything on a machine with a GPU, which may
 * have neither Deno nor a compiler nor a network; `--pack` makes an archive for it.
 */
import { statfsSync } from "node:fs";
import { parseArguments, UsageError } from "../src/cli/arguments.ts";
import { runCommand, writeReport } from "./command.ts";
import { useStandIns } from "./gpu/stand_ins.ts";
import { dayPage } from "./gpu_day/page.ts";
import { doctorOf, type GpuDay, type StepResult } from "./gpu_day/results.ts";
import { runWithin } from "./gpu_day/run.ts";
import { type Day, type Step, STEPS } from "./gpu_day/steps.ts";
import { describeMachine } from "./side_by_side/report.ts";
import { tempFolder } from "./temp_folder.ts";

const USAGE = `Usage: deno task gpu-day [options]          runs all steps on this machine
       deno task gpu-day --pack [--out FILE]   makes the archive for a bare machine

Runs doctor, the CUDA tests, a stress test under compute-sanitizer, the benchmark beside the installed peers, DLPack to
PyTorch and CuPy, MPI and NCCL with device memory, and WebGPU, within 8 minutes; each step has a limit of its own. What
the machine lacks is named, not failed. After every step the results so far are in FOLDER/gpu_day.json and gpu_day.md.

  --out FOLDER     where the results go (default gpu-day-results)
  --save           also write them to bench/results/gpu_day.json, for deno task bench:report
  --stand-ins      rehearse on the stand-ins of tests/sim, quickly: says nothing about any GPU, and is not saved
  --pack           make the archive: Deno, the package, its built library; --out FILE (default gpu-day.tar.gz)
  --help           print this`;

/** Seconds for all steps. */
const LIMIT_SECONDS = 480;

const RESULTS = new URL("./results/gpu_day.json", import.meta.url).pathname;

/** Of the output of a step that did not pass, the last characters are kept. */
const OUTPUT_CHARACTERS = 8000;

async function main(argv: readonly string[]): Promise<void> {
  const args = parseArguments(argv, { out: "text", save: "flag", "stand-ins": "flag", pack: "flag" });
  if (args.flag("help")) return console.log(USAGE);
  if (args.inputs.length > 0) throw new UsageError(`There are no inputs, got "${args.inputs[0]}"`);
  const isRehearsal = args.flag("stand-ins"), isSaved = args.flag("save");
  if (args.flag("pack")) {
    if (isRehearsal || isSaved) throw new UsageError("--pack takes no other option than --out");
    const { pack } = await import("./gpu_day/pack.ts");
    return await pack(args.text("out") ?? "gpu-day.tar.gz");
  }
  if (isRehearsal && isSaved) {
    throw new UsageError("--save and --stand-ins exclude each other: figures of stand-ins are not results");
  }
  const day = await runDay(args.text("out") ?? "gpu-day-results", isRehearsal);
  if (isSaved) await writeReport(RESULTS, day);
  console.log(`\n${dayPage(day)}`);
  if (day.steps.some(({ status }) => status === "failed")) Deno.exitCode = 1;
}

/** Runs all steps; writes the results after each. */
async function runDay(out: string, isRehearsal: boolean): Promise<GpuDay> {
  const work = tempFolder();
  if (isRehearsal) await useStandIns(work, "nccl");
  const start = performance.now();
  const about = {
    made: new Date().toISOString(),
    machine: await describeMachine(),
    isRehearsal,
    limitSeconds: LIMIT_SECONDS * slack({ isRehearsal }),
  };
  const steps: StepResult[] = [];
  let day: GpuDay = { ...about, seconds: 0, steps };
  for (const step of STEPS) {
    const left = LIMIT_SECONDS * slack(day) - (performance.now() - start) / 1000;
    console.log(`${step.title} …`);
    const result = await runStep(step, stateOf(day, work), left);
    console.log(`  ${result.status}${result.reason === null ? "" : `: ${result.reason}`}`);
    steps.push(result);
    day = { ...about, seconds: (performance.now() - start) / 1000, steps };
    await writeReport(`${out}/gpu_day.json`, day);
    await Deno.writeTextFile(`${out}/gpu_day.md`, dayPage(day));
  }
  return day;
}

/** What the steps may know, by the report of `doctor`. */
function stateOf(day: GpuDay, work: string): Day {
  const report = doctorOf(day);
  const [gpu] = report?.cuda.devices ?? [];
  const adapter = report?.webgpu.adapter;
  const software = adapter?.isSoftware && !day.isRehearsal
    ? `the only adapter, ${adapter.name}, is software`
    : null;
  const { bavail, bsize } = statfsSync(work);
  // The page cache holds the model twice: torch.load has files of its own.
  const most = Math.min(2 ** 32, Deno.systemMemoryInfo().available / 6, bavail * bsize / 4);
  return {
    work,
    isRehearsal: day.isRehearsal,
    bytes: day.isRehearsal ? 64e6 : Math.floor(Math.min(most, (gpu?.totalBytes ?? 0) / 4)),
    missingCuda: gpu ? null : report?.cuda.reason ?? "the report on the machine is missing",
    missingWebGpu: adapter ? software : report?.webgpu.reason ?? "the report on the machine is missing",
  };
}

/** A rehearsal may run on a busy machine: its limits are longer by this factor. */
function slack({ isRehearsal }: { readonly isRehearsal: boolean }): number {
  return isRehearsal ? 10 : 1;
}

async function runStep(step: Step, day: Day, secondsLeft: number): Promise<StepResult> {
  const { name, title } = step;
  const limitSeconds = step.limitSeconds * slack(day);
  const about = { name, title, limitSeconds };
  const missing = step.missing?.(day) ?? null;
  if (missing !== null) return { ...about, status: "missing", reason: missing, seconds: 0 };
  const start = performance.now();
  const most = Math.min(limitSeconds, secondsLeft);
  const env = {
    NO_COLOR: "1",
    DENO_NO_UPDATE_CHECK: "1",
    DENO_JOBS: "1",
    DENO_WEBGPU_BACKEND: "vulkan",
    FASTSAFETENSORS_TEST_GPU: "real", // also in a rehearsal, where the stand-ins are this machine's GPU
    FASTSAFETENSORS_TEST_REQUIRE: "",
  };
  const seconds = () => (performance.now() - start) / 1000;
  for (const line of step.commands(day)) {
    const left = Math.floor(most - seconds());
    if (left < 1) break;
    const ended = await runWithin(left, line, day.work, env);
    const verdict = await step.read(ended, day);
    if (verdict === null) continue;
    const output = (ended.stdout + ended.stderr).slice(-OUTPUT_CHARACTERS);
    const isKept = verdict.status === "failed" || verdict.status === "stopped";
    return { ...about, ...verdict, seconds: seconds(), ...isKept ? { output } : {} };
  }
  return {
    ...about,
    status: "not reached",
    reason: "the time of all steps, or of this one, was over",
    seconds: seconds(),
  };
}

await runCommand(USAGE, main);
