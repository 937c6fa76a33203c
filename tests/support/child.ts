/**
 * Programs that tests run as separate processes.
 */
import { exists } from "./skip.ts";

/** The result of a program. */
export interface ChildResult {
  /** Exit status; above 128 after a signal. */
  readonly code: number;
  /** Its output on stdout. */
  readonly stdout: string;
  /** Its output on stderr. */
  readonly stderr: string;
}

/** Options for running a program. */
export interface ChildOptions {
  /** Permissions and other flags of `deno run`. */
  readonly flags: readonly string[];
  /** Arguments of the program. */
  readonly args: readonly string[];
  /** The whole environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Whether file permissions apply to it, also if this process runs as root. */
  readonly unprivileged?: boolean;
  /** A folder, and its replacement for the program; see {@linkcode cannotHide}. */
  readonly hide?: readonly [folder: string, by: string];
  /** The working folder; default this process's. */
  readonly cwd?: string;
}

/** Programs also count for `deno task coverage`. */
const COVERAGE = Object.fromEntries(
  Object.entries({ DENO_COVERAGE_DIR: Deno.env.get("DENO_COVERAGE_DIR") }).filter(([, folder]) => folder),
) as Record<string, string>;

/** Removes root's capabilities to read all files from a program; part of Debian's essential util-linux. */
const SETPRIV = "/usr/bin/setpriv";
const WITHOUT = "-dac_override,-dac_read_search";

/** The reason that file permissions cannot apply to a program here, or null. */
export function privileged(): string | null {
  if (Deno.uid() !== 0 || exists(SETPRIV)) return null;
  return `this is root, whom no permission stops, and there is no ${SETPRIV}`;
}

const HIDE = 'mount --bind "$1" "$2" && shift 2 && exec "$@"';

/** The reason that a folder cannot be hidden from a program, or null. */
export function cannotHide(): string | null {
  const args = ["--mount", "sh", "-c", HIDE, "sh", "/tmp", "/tmp", "true"];
  try {
    const { success } = new Deno.Command("unshare", { args, stderr: "null" }).outputSync();
    return success ? null : "nothing can be mounted here, or not without root";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "there is no unshare";
    throw error;
  }
}

/** Runs tests/children/`name`, or the program at an absolute path, with Deno, without an input for prompts. */
export async function runChild(name: string, options: ChildOptions): Promise<ChildResult> {
  const program = new URL(name, new URL("../children/", import.meta.url)).pathname;
  const command = [
    Deno.execPath(),
    "run",
    "--no-prompt",
    "--quiet",
    ...options.flags,
    program,
    ...options.args,
  ];
  if (options.unprivileged && Deno.uid() === 0) {
    command.unshift(SETPRIV, `--bounding-set=${WITHOUT}`, `--inh-caps=${WITHOUT}`);
  }
  if (options.hide) {
    const [folder, by] = options.hide;
    command.unshift("unshare", "--mount", "sh", "-c", HIDE, "sh", by, folder);
  }
  const { code, stdout, stderr } = await new Deno.Command(command[0]!, {
    args: command.slice(1),
    env: { NO_COLOR: "1", ...COVERAGE, ...options.env },
    clearEnv: true,
    stdin: "null",
    ...options.cwd !== undefined && { cwd: options.cwd },
  }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}
