/**
 * Stress of the groups: jobs of some rounds each (stress_program.ts), over all combinations of tool, MPI family and 1 to
 * 4 ranks. By itself it prints what each combination gave; 2,000 rounds, from seed 1 on, 10 rounds a job:
 * `deno run -A tests/ranks/group/stress.ts 2000 1 10`.
 */
import { buildStandIn } from "../../support/stand_in.ts";
import { compiler } from "../../support/compiler.ts";
import { SOURCES } from "../../../ffi/sources.ts";
import { cacheFolder } from "../../../ffi/build.ts";
import { openLibrary } from "../../../ffi/library.ts";
import { findLaunchers, type Launcher, runCommand } from "./ranks.ts";
import { endingOf, ENDINGS } from "./stress_plan.ts";

await openLibrary(); // built once, not by several ranks at the same time

/** What looks for faults besides the job itself. */
export const TOOLS = ["none", "MALLOC_PERTURB_", "AddressSanitizer"] as const;
type Tool = typeof TOOLS[number];

/** What came out of one combination. */
export interface StressResult {
  readonly combination: string;
  rounds: number;
  readonly faults: string[];
}

/** Lines that no process of a job may print. */
const FAULT =
  /AddressSanitizer|runtime error|Caught signal|double free|corrupted|Foreign|foreign|FINALIZE|panicked/;

/**
 * Runs at least so many rounds, in jobs of all combinations in turns.
 *
 * @param seed of the first job; each has the next one
 * @param options.jobRounds rounds of one job
 * @param options.report is called after each job, with what its combination has given so far
 */
export async function stress(
  rounds: number,
  seed: number,
  { jobRounds = 5, report = () => {} }: { jobRounds?: number; report?: (result: StressResult) => void } = {},
): Promise<StressResult[]> {
  const results = new Map<string, StressResult>();
  const combinations = await allCombinations();
  const jobs = Math.ceil(rounds / jobRounds);
  for (let job = 0; job < jobs; job++) {
    const { title, ...combination } = combinations[job % combinations.length]!;
    const result = results.get(title) ?? { combination: title, rounds: 0, faults: [] };
    results.set(title, result);
    const fault = await runJob(combination, seed + job, jobRounds);
    result.rounds += jobRounds;
    if (fault) result.faults.push(`seed ${seed + job}: ${fault}`);
    report(result);
  }
  return [...results.values()];
}

interface Combination {
  readonly title: string;
  readonly launcher: Launcher;
  readonly size: number;
  readonly environment: readonly string[];
}

/** All of them, in an order in which the first few differ in everything. */
async function allCombinations(): Promise<Combination[]> {
  const { found } = findLaunchers();
  const all: Combination[] = [];
  const environments = new Map<Tool, string[]>();
  for (const tool of TOOLS) environments.set(tool, await environmentOf(tool));
  for (let index = 0; index < TOOLS.length * 4; index++) {
    const tool = TOOLS[index % 3]!, size = 4 - index % 4;
    for (const launcher of found) {
      const title = `${tool}, ${launcher.family}, ${size} ranks`;
      all.push({ title, launcher, size, environment: environments.get(tool)! });
    }
  }
  return all;
}

/** Variables as `env` takes them: those of the ranks, not of their launcher. */
async function environmentOf(tool: Tool): Promise<string[]> {
  const nccl = await buildStandIn("nccl");
  const standIn = `${nccl.folder}/libfst_sim_nccl.so`;
  const variables = nccl.missing
    ? []
    : ["NCCL", "CUDART", "CUDA"].map((name) => `FASTSAFETENSORS_${name}_LIB=${standIn}`);
  if (tool === "MALLOC_PERTURB_") return [...variables, "MALLOC_PERTURB_=85"];
  if (tool === "none") return variables;
  const { path: cc } = await compiler();
  const { stdout } = await new Deno.Command(cc, { args: ["-print-file-name=libasan.so"] }).output();
  return [
    ...variables,
    `LD_PRELOAD=${new TextDecoder().decode(stdout).trim()}`,
    "ASAN_OPTIONS=detect_leaks=0:handle_segv=0:allocator_may_return_null=1",
    `FASTSAFETENSORS_LIB=${await buildWatched(cc)}`,
  ];
}

/** The shim with AddressSanitizer. */
async function buildWatched(cc: string): Promise<string> {
  const text = new TextEncoder().encode(JSON.stringify(SOURCES));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", text)).toHex().slice(0, 24);
  const path = `${cacheFolder()}/stress-${digest}.so`;
  if (await Deno.stat(path).catch(() => null)) return path;
  const native = new URL("../../../native/", import.meta.url).pathname;
  const units = Object.keys(SOURCES).filter((name) => name.endsWith(".c")).map((name) => `${native}${name}`);
  const flags = ["-std=gnu11", "-O1", "-g", "-fPIC", "-shared", "-fvisibility=hidden", "-fsanitize=address"];
  const work = `${path}.${Deno.pid}`;
  const args = [...flags, `-I${native}`, ...units, "-lpthread", "-ldl", "-o", work];
  const { success, stderr } = await new Deno.Command(cc, { args }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  await Deno.rename(work, path);
  return path;
}

/** What went wrong, or null. */
async function runJob(
  { launcher, size, environment }: Omit<Combination, "title">,
  seed: number,
  rounds: number,
): Promise<string | null> {
  const program = new URL("stress_program.ts", import.meta.url).pathname;
  const words = [Deno.execPath(), "run", "--quiet", "--no-check", "-A", program, `${seed}`, `${rounds}`];
  const ending = endingOf(seed);
  const wanted = ENDINGS[ending];
  try {
    const { code, stderr } = await runCommand(launcher, size, ["env", ...environment, ...words], {});
    if (code !== wanted) return `${ending} ended with status ${code}, not ${wanted}:\n${stderr}`;
    if (FAULT.test(stderr) || (wanted === 0 && stderr !== "")) return `${ending} printed:\n${stderr}`;
    return null;
  } catch (error) {
    return `${ending}: ${(error as Error).message}`; // it hangs
  }
}

if (import.meta.main) {
  const [rounds = 100, seed = 1, jobRounds = 5] = Deno.args.map(Number);
  const report = ({ combination, rounds, faults }: StressResult) => {
    if (faults.length > 0) console.log(`${combination}, after ${rounds} rounds: ${faults.at(-1)}`);
  };
  const results = await stress(rounds, seed, { jobRounds, report });
  for (const { combination, rounds, faults } of results) {
    console.log(`${combination}: ${rounds} rounds, ${faults.length} faults`);
  }
  if (results.some(({ faults }) => faults.length > 0)) Deno.exitCode = 1;
}
