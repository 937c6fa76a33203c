/**
 * Counts the lines that tests run, in `coverage/`: those of TypeScript by Deno, also in programs that tests start;
 * those of C by gcov: a `cc` at the start of the PATH adds its flags, and builds go to a separate cache folder.
 */
import { compiler } from "../support/compiler.ts";

/** The folder of all counts. */
export const FOLDER = new URL("../../coverage", import.meta.url).pathname;

/** The settings of a run of `deno test` that counts its lines. */
export interface Counting {
  /** Options of `deno test`. */
  readonly options: readonly string[];
  /** Environment variables. */
  readonly env: Record<string, string>;
}

/** Prepares the folder; the counts of earlier runs stay. */
export async function countLines(): Promise<Counting> {
  const raw = `${FOLDER}/deno`;
  return {
    options: [`--coverage=${raw}`, "--coverage-raw-data-only"],
    env: {
      PATH: `${await countingCompiler()}:${Deno.env.get("PATH")}`,
      DENO_DIR: await denoFolder(), // otherwise it would be below the next
      XDG_CACHE_HOME: `${FOLDER}/cache`,
      DENO_COVERAGE_DIR: raw, // for the programs that tests start
    },
  };
}

/**
 * A folder with a `cc` that counts lines: each call of it writes its notes to a separate folder. It optimizes as
 * requested, because the tested library is that of users. Builds with a sanitizer are not counted.
 */
async function countingCompiler(): Promise<string> {
  const { path, missing } = await compiler();
  if (missing) throw new Error(`Cannot count the lines of native/: ${missing}`);
  const folder = `${FOLDER}/bin`;
  await Deno.mkdir(folder, { recursive: true });
  await Deno.mkdir(`${FOLDER}/gcov`, { recursive: true });
  const script = `#!/bin/sh
case "$*" in *-fsanitize=*) exec '${path}' "$@" ;; esac
work=$(mktemp -d '${FOLDER}/gcov/XXXXXXXX')
exec '${path}' "$@" --coverage -fprofile-update=atomic -dumpdir "$work/"
`;
  await Deno.writeTextFile(`${folder}/cc`, script, { mode: 0o755 });
  return folder;
}

/** The folder of Deno's compiled code. */
async function denoFolder(): Promise<string> {
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"] }).output();
  return JSON.parse(new TextDecoder().decode(stdout)).denoDir;
}
