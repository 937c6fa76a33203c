/**
 * `deno task coverage`: reports the lines of src/, ffi/ and native/ that all tests ran with `--coverage` since
 * `coverage/` was removed. Fails below 90 % of one of them.
 */
import { SOURCES } from "../../ffi/sources.ts";
import { FOLDER } from "./count.ts";
import { addGcov, addLcov, dropAvx512, gaps, type Lines, share } from "./lines.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const FOLDERS = ["src", "ffi", "native"];
const LEAST_PERCENT = 90;

/** The output of a command without its stderr. */
async function output(command: string, args: readonly string[], cwd = ROOT): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args: [...args], cwd }).output();
  const decoder = new TextDecoder();
  if (!success) throw new Error(`Cannot count lines: "${command}" failed: ${decoder.decode(stderr)}`);
  return decoder.decode(stdout);
}

/** Removes the profiles of processes that a test killed while they wrote them. */
function removeCutProfiles(): void {
  for (const { name } of Deno.readDirSync(`${FOLDER}/deno`)) {
    const path = `${FOLDER}/deno/${name}`;
    using file = Deno.openSync(path);
    const end = new Uint8Array(1);
    const isWhole = file.statSync().size > 0 && file.seekSync(-1, Deno.SeekMode.End) >= 0 &&
      file.readSync(end) === 1 && end[0] === "}".charCodeAt(0);
    if (name.endsWith(".json") && !isWhole) Deno.removeSync(path);
  }
}

async function report(): Promise<Lines> {
  const lines: Lines = new Map();
  removeCutProfiles();
  const include = `^file://${ROOT}(src|ffi)/`;
  const lcov = await output(Deno.execPath(), [
    "coverage",
    "--lcov",
    `--include=${include}`,
    `${FOLDER}/deno`,
  ]);
  addLcov(lines, lcov, ROOT);
  const sources = new Set(Object.keys(SOURCES));
  const names = new Set([...sources].map((path) => path.slice(path.lastIndexOf("/") + 1)));
  for await (const { name } of Deno.readDir(`${FOLDER}/gcov`)) {
    const folder = `${FOLDER}/gcov/${name}`;
    // Programs of the tests are not counted, and some write data that gcov cannot read.
    const data = [...Deno.readDirSync(folder)].map((file) => file.name).filter((file) =>
      file.endsWith(".gcda") && names.has(file.replace(/(\.c)?\.gcda$/, ".c"))
    );
    if (data.length === 0) continue;
    addGcov(lines, await output("gcov", ["--json-format", "--stdout", "--", ...data], folder), sources, ROOT);
  }
  return lines;
}

const lines = await report();
const isX86WithoutAvx512 = Deno.build.arch === "x86_64" &&
  !(await Deno.readTextFile("/proc/cpuinfo")).includes("avx512vbmi");
if (isX86WithoutAvx512) {
  console.log(
    `Not counted: ${dropAvx512(lines, SOURCES)} lines for AVX-512, which this processor does not have`,
  );
}
for (const [file, counts] of [...lines].sort(([a], [b]) => a < b ? -1 : 1)) {
  const { percent } = share(new Map([[`all/${file}`, counts]]), "all");
  if (percent < LEAST_PERCENT) {
    console.log(`${percent.toFixed(1).padStart(5)} %  ${file}: not ${gaps(counts)}`);
  }
}
let enough = true;
for (const folder of FOLDERS) {
  const { lines: all, ran, percent } = share(lines, folder);
  console.log(`${percent.toFixed(1).padStart(5)} %  ${folder}: ${ran} of ${all} lines`);
  enough &&= all > 0 && percent >= LEAST_PERCENT;
}
if (!enough) console.error(`Fewer than ${LEAST_PERCENT} % of the lines of a folder have run`);
Deno.exit(enough ? 0 : 1);
