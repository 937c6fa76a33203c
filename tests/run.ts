/**
 * The commands `deno task test` and `deno task test:long`. Each test file runs in a separate process: tests set
 * environment variables and open libraries, and files must not affect each other.
 */
import { countLines } from "./coverage/count.ts";
import { exists } from "./support/skip.ts";

const ROOT = new URL("../", import.meta.url).pathname;
const LONG = "_long_test.ts";

const HELP = `Runs tests, each file in a process of its own, as many at a time as there are processors.

Usage: deno task test [OPTIONS] [PATH…]        the quick tests, of all files or of those at PATH
       deno task test:long [OPTIONS] [PATH…]   the long tests: files that end in ${LONG}

Options:
  --coverage      keep which lines ran in coverage/, for deno task coverage
  --filter=NAME   only tests with this in their names; all other options of "deno test" are its own, too
  --help

DENO_JOBS sets how many files run at a time. FASTSAFETENSORS_TEST_REQUIRE lists what must not be skipped.`;

/**
 * Deno opens no OpenGL driver for WebGPU: its libEGL crashes about one in a hundred processes whose thread, here that of
 * the tests, ends together with the process (docs/tensors.md).
 */
const GRAPHICS = { DENO_WEBGPU_BACKEND: Deno.env.get("DENO_WEBGPU_BACKEND") ?? "vulkan" };

/** The results of a file's tests. */
interface Result {
  readonly passed: number;
  readonly failed: number;
  /** Lines with skipped tests and the reasons. */
  readonly skipped: readonly string[];
  readonly seconds: number;
  /** The whole output. */
  readonly printed: string;
}

/** The test files at a path: the file itself, or the long or short tests below a folder. */
function testFiles(path: string, long: boolean): string[] {
  if (!exists(path)) {
    throw new Error(`There is no "${path}"; a value follows its option as in "--filter=NumPy"`);
  }
  if (Deno.statSync(path).isFile) return [path];
  const folder = path.replace(/\/*$/, "/");
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) => {
    if (isDirectory) return testFiles(folder + name, long);
    return name.endsWith("_test.ts") && name.endsWith(LONG) === long ? [folder + name] : [];
  });
}

async function runFile(
  file: string,
  options: readonly string[],
  env: Record<string, string>,
): Promise<Result> {
  const start = performance.now();
  // `deno task check` checks the types of all files at once.
  const { success, code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["test", "--allow-all", "--no-check", ...options, file],
    env: { ...GRAPHICS, ...env, NO_COLOR: "1" },
    stdin: "null",
  }).output();
  const seconds = (performance.now() - start) / 1000;
  const decoder = new TextDecoder();
  const printed = decoder.decode(stdout) + decoder.decode(stderr);
  const counts = [...printed.matchAll(/^(?:ok|FAILED) \| (\d+) passed.*? \| (\d+) failed/gm)].at(-1);
  const passed = Number(counts?.[1] ?? 0), failed = Number(counts?.[2] ?? 0);
  const skipped = [...printed.matchAll(/^(.*) \.\.\. ignored \(/gm)].map(([, name]) => name!);
  if (success && counts) return { passed, failed, skipped, seconds, printed };
  // A process that crashes, or fails outside of a test, is also a failure.
  return { passed, failed: Math.max(failed, 1), skipped, seconds, printed: `${printed}Status ${code}\n` };
}

if (Deno.args.includes("--help")) {
  console.log(HELP);
  Deno.exit();
}
const long = Deno.args.includes("--long"), coverage = Deno.args.includes("--coverage");
const options = Deno.args.filter((word) =>
  word.startsWith("-") && word !== "--long" && word !== "--coverage"
);
const paths = Deno.args.filter((word) => !word.startsWith("-"));
const unknown = paths.find((path) => !exists(path));
if (unknown !== undefined) {
  console.error(`There is no "${unknown}"; the value of an option follows "=", as in "--filter=NumPy"`);
  Deno.exit(2);
}
const waiting = (paths.length > 0 ? paths : [`${ROOT}tests`]).flatMap((path) => testFiles(path, long)).sort();
if (waiting.length === 0) {
  console.error(`There are no ${long ? "long" : "quick"} tests at ${paths.join(", ")}`);
  Deno.exit(2);
}

const counting = coverage ? await countLines() : { options: [], env: {} };
const started = performance.now();
const results: (Result & { readonly name: string })[] = [];

async function work(): Promise<void> {
  for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
    const result = await runFile(file, [...options, ...counting.options], counting.env);
    const name = file.startsWith(ROOT) ? file.slice(ROOT.length) : file;
    const { passed, failed, skipped, seconds, printed } = result;
    const counts = `${passed} passed, ${failed} failed, ${skipped.length} skipped`;
    results.push({ ...result, name });
    if (passed + failed + skipped.length === 0) continue; // all filtered out
    console.log(`${failed > 0 ? "FAILED" : "ok"}  ${name}: ${counts} (${seconds.toFixed(1)} s)`);
    if (failed > 0) console.log(printed);
  }
}

const jobs = Number(Deno.env.get("DENO_JOBS") ?? navigator.hardwareConcurrency);
await Promise.all(Array.from({ length: jobs }, work));

const skipped = results.flatMap(({ name, skipped }) => skipped.map((line) => `  ${name}: ${line}`)).sort();
if (skipped.length > 0) console.log(`\nSkipped:\n${skipped.join("\n")}`);
const sum = (of: (result: Result) => number) => results.reduce((total, result) => total + of(result), 0);
const failed = sum((result) => result.failed);
const minutes = ((performance.now() - started) / 60_000).toFixed(1);
console.log(
  `\n${failed > 0 ? "FAILED" : "ok"} | ${sum((result) => result.passed)} passed | ${failed} failed | ` +
    `${skipped.length} ignored (${minutes} minutes)`,
);
Deno.exit(failed > 0 ? 1 : 0);
