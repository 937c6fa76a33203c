/**
 * Programs of several ranks, for tests: MPI's launchers, and processes that meet over TCP.
 */

import { tempFolder } from "../../support/models.ts";
import { type Ended, patiently } from "./patience.ts";
import { heard, SAID } from "./say.ts";

/** How ranks are started. */
export interface Launcher {
  /** "Open MPI" or "MPICH". */
  readonly family: string;
  readonly command: string;
  readonly args: readonly string[];
  /** The library that belongs to it. */
  readonly library: string;
}

/** What one rank said: by {@linkcode say}, or in short lines of JSON on its standard output. */
export interface RankOutput {
  readonly rank: number;
  // deno-lint-ignore no-explicit-any
  readonly [key: string]: any;
}

/** How a program of several ranks ended. */
export interface Outcome {
  readonly code: number;
  readonly seconds: number;
  readonly stderr: string;
  /** What the ranks said, in the order of their ranks. */
  readonly ranks: readonly RankOutput[];
}

const LAUNCHERS: readonly Launcher[] = [
  {
    family: "Open MPI",
    command: "mpirun.openmpi",
    args: ["--allow-run-as-root", "--oversubscribe"],
    library: "libmpi.so.40",
  },
  { family: "MPICH", command: "mpirun.mpich", args: [], library: "libmpich.so.12" },
];

/** The launchers of this machine, and why others are not used. */
export function findLaunchers(): { found: Launcher[]; missing: Map<string, string> } {
  const found: Launcher[] = [];
  const missing = new Map<string, string>();
  for (const launcher of LAUNCHERS) {
    if (versionOf(launcher.command) !== null) found.push(launcher);
    else missing.set(launcher.family, `there is no "${launcher.command}"`);
  }
  // Outside of Debian one family has the name without its own.
  const version = found.length === 0 ? versionOf("mpirun") : null;
  const plain = version === null
    ? undefined
    : LAUNCHERS.find(({ family }) => version.includes(family === "MPICH" ? "HYDRA" : family));
  if (plain) {
    found.push({ ...plain, command: "mpirun" });
    missing.delete(plain.family);
  }
  return { found, missing };
}

/** What a launcher prints with `--version`; null if it does not exist. */
function versionOf(command: string): string | null {
  try {
    const { stdout } = new Deno.Command(command, { args: ["--version"], stderr: "null" }).outputSync();
    return new TextDecoder().decode(stdout);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

/** Runs a program of this folder on `size` ranks; without a launcher's command, as a single process. */
export function runRanks(
  launcher: Launcher,
  size: number,
  program: string,
  words: readonly string[],
  env: Record<string, string> = {},
): Promise<Outcome> {
  return runCommand(launcher, size, denoRun(program, words), env);
}

/** Runs a command line on `size` ranks. */
export async function runCommand(
  { command, args }: Launcher,
  size: number,
  line: readonly string[],
  env: Record<string, string>,
): Promise<Outcome> {
  const start = performance.now();
  const [first, ...rest] = command === "" ? line : [command, ...args, "-n", `${size}`, ...line];
  await using said = await tempFolder();
  const output = await patiently(first!, { args: rest, env: { NO_COLOR: "1", [SAID]: said.path, ...env } });
  return outcome([output], said.path, start);
}

/** Runs a program of this folder on `size` ranks that know each other's address, as torchrun starts them. */
export async function runAtAddress(
  size: number,
  program: string,
  words: readonly string[],
  env: Record<string, string> = {},
): Promise<Outcome> {
  const start = performance.now();
  const port = freePort();
  await using said = await tempFolder();
  const outputs = await Promise.all(
    Array.from({ length: size }, (_, rank) =>
      patiently(Deno.execPath(), {
        args: denoRun(program, words).slice(1),
        env: {
          NO_COLOR: "1",
          RANK: `${rank}`,
          WORLD_SIZE: `${size}`,
          MASTER_ADDR: "127.0.0.1",
          MASTER_PORT: `${port}`,
          [SAID]: said.path,
          ...env,
        },
      })),
  );
  return outcome(outputs, said.path, start);
}

/** A port that nobody listens at. */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** Bytes that are the same for the same seed, and different at every place. */
export function pattern(seed: number, length: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, index) => (seed * 31 + index * 7 + (index >> 8) * 13) & 255);
}

/** SHA-256 of bytes, in hexadecimal digits. */
export async function digest(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

function denoRun(program: string, words: readonly string[]): string[] {
  const path = new URL(program, import.meta.url).pathname;
  return [Deno.execPath(), "run", "--quiet", "-A", path, ...words];
}

function outcome(outputs: readonly Ended[], said: string, start: number): Outcome {
  const decoder = new TextDecoder();
  const ranks = heard<RankOutput>(said);
  let stderr = "";
  for (const output of outputs) {
    stderr += decoder.decode(output.stderr);
    for (const line of decoder.decode(output.stdout).split("\n")) {
      if (line.startsWith("{")) ranks.push(JSON.parse(line));
      else stderr += line === "" ? "" : `${line}\n`;
    }
  }
  ranks.sort((a, b) => a.rank - b.rank);
  const code = outputs.map((output) => output.code).find((code) => code !== 0) ?? 0;
  return { code, seconds: (performance.now() - start) / 1000, stderr, ranks };
}

/** How long ranks waited for the news that another one had failed, printed when all tests of a file are done. */
export class WaitingTimes {
  readonly #lines: string[] = [];

  /** For the tests of this file. */
  constructor() {
    Deno.test.afterAll(() => {
      if (this.#lines.length > 0) {
        console.log(`Seconds until every rank had its error:\n${this.#lines.join("\n")}`);
      }
    });
  }

  /** Takes note of what the ranks said. */
  add(title: string, ranks: readonly RankOutput[]): void {
    const longest = Math.max(...ranks.map(({ seconds }) => seconds));
    this.#lines.push(`  ${title}: ${longest.toFixed(2)}`);
  }

  /** Takes note of a program that ended as a whole, its start included. */
  addWhole(title: string, { seconds }: Outcome): void {
    this.#lines.push(`  ${title}: ${seconds.toFixed(2)} from the start of the program to its end`);
  }
}
