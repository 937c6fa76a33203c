/**
 * `deno task coverage [--add] [PATH…]`: runs the tests, or those at PATH, and tells which lines of src/, ffi/ and native/
 * they run. Fails below 90 % of one of them.
 *
 * The C code is counted by gcov: a `cc` at the head of the PATH adds its flags, and builds go to a cache folder of their
 * own. Programs that tests start count too. With `--add`, what earlier runs have collected in `coverage/` counts as well,
 * so that the tests can be run in parts.
 */
import { SOURCES } from "../../ffi/sources.ts";
import { compiler } from "../support/compiler.ts";
import { addGcov, addLcov, gaps, type Lines, share } from "./lines.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const FOLDER = `${ROOT}coverage`;
const ROOMS = ["src", "ffi", "native"];
const LEAST_PERCENT = 90;

/** What a command prints; its complaints are left out. */
async function output(command: string, args: readonly string[], cwd = ROOT): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args: [...args], cwd }).output();
  const decoder = new TextDecoder();
  if (!success) throw new Error(`Cannot count lines: "${command}" failed: ${decoder.decode(stderr)}`);
  return decoder.decode(stdout);
}

/**
 * A folder with a `cc` that counts lines: each call of it writes its notes to a folder of its own. It does not optimize:
 * lines of functions that are inlined would not be told apart.
 */
async function countingCompiler(): Promise<string> {
  const { path, missing } = await compiler();
  if (missing) throw new Error(`Cannot count the lines of native/: ${missing}`);
  const folder = `${FOLDER}/bin`;
  await Deno.mkdir(folder, { recursive: true });
  await Deno.mkdir(`${FOLDER}/gcov`, { recursive: true });
  const script = `#!/bin/sh
work=$(mktemp -d '${FOLDER}/gcov/XXXXXXXX')
exec '${path}' "$@" -O0 --coverage -fprofile-update=atomic -dumpdir "$work/"
`;
  await Deno.writeTextFile(`${folder}/cc`, script, { mode: 0o755 });
  return folder;
}

/** Runs the tests and leaves what they have run in the folder. */
async function collect(paths: readonly string[]): Promise<boolean> {
  const bin = await countingCompiler();
  const coverage = `${FOLDER}/deno`;
  const { success } = await new Deno.Command(Deno.execPath(), {
    args: ["test", "--allow-all", `--coverage=${coverage}`, "--coverage-raw-data-only", ...paths],
    cwd: ROOT,
    env: {
      PATH: `${bin}:${Deno.env.get("PATH")}`,
      XDG_CACHE_HOME: `${FOLDER}/cache`,
      DENO_COVERAGE_DIR: coverage, // for the programs that tests start
    },
  }).spawn().status;
  return success;
}

async function report(): Promise<Lines> {
  const lines: Lines = new Map();
  const include = `^file://${ROOT}(src|ffi)/`;
  const lcov = await output(Deno.execPath(), [
    "coverage",
    "--lcov",
    `--include=${include}`,
    `${FOLDER}/deno`,
  ]);
  addLcov(lines, lcov, ROOT);
  const sources = new Set(Object.keys(SOURCES));
  for await (const { name } of Deno.readDir(`${FOLDER}/gcov`)) {
    const folder = `${FOLDER}/gcov/${name}`;
    // Programs of the tests are no business of this, and some leave data that gcov cannot read.
    const data = [...Deno.readDirSync(folder)].map((file) => file.name).filter((file) =>
      file.endsWith(".gcda") && sources.has(file.replace(/(\.c)?\.gcda$/, ".c"))
    );
    if (data.length === 0) continue;
    addGcov(lines, await output("gcov", ["--json-format", "--stdout", "--", ...data], folder), sources, ROOT);
  }
  return lines;
}

const paths = Deno.args.filter((argument) => argument !== "--add");
if (paths.length === Deno.args.length) await Deno.remove(FOLDER, { recursive: true }).catch(() => {});
const passed = await collect(paths.length > 0 ? paths : ["tests/"]);
const lines = await report();
for (const [file, counts] of [...lines].sort(([a], [b]) => a < b ? -1 : 1)) {
  const { percent } = share(new Map([[`all/${file}`, counts]]), "all");
  if (percent < LEAST_PERCENT) {
    console.log(`${percent.toFixed(1).padStart(5)} %  ${file}: not ${gaps(counts)}`);
  }
}
let enough = true;
for (const room of ROOMS) {
  const { lines: all, ran, percent } = share(lines, room);
  console.log(`${percent.toFixed(1).padStart(5)} %  ${room}: ${ran} of ${all} lines`);
  enough &&= all > 0 && percent >= LEAST_PERCENT;
}
if (!passed) console.error("Some tests have failed");
if (!enough) console.error(`Fewer than ${LEAST_PERCENT} % of the lines of a room have run`);
Deno.exit(passed && enough ? 0 : 1);
