/**
 * Runs the command of a step within its time.
 */
import { exists } from "../../tests/support/skip.ts";

/** How a command ended. */
export interface Ended {
  /** The program. */
  readonly command: string;
  readonly code: number;
  /** Whether its time ran out. */
  readonly isStopped: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

const ROOT = new URL("../../", import.meta.url).pathname;

/** The status of coreutils' `timeout` when the time runs out: after SIGTERM, and after SIGKILL. */
const STOPPED = [124, 137];

/**
 * Runs a command for at most so many seconds. Then all its processes end, first by SIGTERM, 3 seconds later by SIGKILL.
 * The output goes to files in `work`: a process that outlives the command cannot hold this one up by an open pipe.
 */
export async function runWithin(
  seconds: number,
  line: readonly string[],
  work: string,
  env: Readonly<Record<string, string>>,
): Promise<Ended> {
  const files = [`${work}/stdout`, `${work}/stderr`] as const;
  const script = 'out=$1 err=$2; shift 2; exec "$@" >"$out" 2>"$err" </dev/null';
  const { code } = await new Deno.Command("timeout", {
    args: ["--kill-after=3", `${seconds}`, "sh", "-c", script, "sh", ...files, ...line],
    cwd: ROOT, // its deno.json holds for `deno test`
    env: { ...env },
  }).output();
  const [stdout, stderr] = await Promise.all(files.map((path) => Deno.readTextFile(path))) as [
    string,
    string,
  ];
  return { command: line[0]!, code, isStopped: STOPPED.includes(code), stdout, stderr };
}

/** The path of a program, on the PATH or among CUDA's; null if it is missing. */
export function findTool(name: string): string | null {
  const folders = [...(Deno.env.get("PATH") ?? "").split(":"), "/usr/local/cuda/bin"];
  return folders.map((folder) => `${folder}/${name}`).find(exists) ?? null;
}
