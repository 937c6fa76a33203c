/** Runs the command line in a separate process, as users do. */

/** The command line. */
export const MAIN = new URL("../../src/cli/mod.ts", import.meta.url).pathname;

/** The result of a command. */
export interface Outcome {
  /** Exit status. */
  readonly code: number;
  /** Its output on stdout. */
  readonly stdout: string;
  /** Its output on stderr, without the note on the portable engine. */
  readonly stderr: string;
}

/** Starts a command with its output piped, with additional environment variables. */
export function startCliWith(env: Readonly<Record<string, string>>, ...args: string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", MAIN, ...args],
    env,
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Starts a command with its output piped. */
export function startCli(...args: string[]): Deno.ChildProcess {
  return startCliWith({ NO_COLOR: "1" }, ...args);
}

/** Runs a command to its end, with additional environment variables. */
export async function runCliWith(env: Readonly<Record<string, string>>, ...args: string[]): Promise<Outcome> {
  const { code, stdout, stderr } = await startCliWith(env, ...args).output();
  const decoder = new TextDecoder();
  return {
    code,
    stdout: decoder.decode(stdout),
    stderr: decoder.decode(stderr).replace(/^fastsafetensors: Portable engine.*\n/, ""),
  };
}

/** Runs a command to its end. */
export function runCli(...args: string[]): Promise<Outcome> {
  return runCliWith({ NO_COLOR: "1" }, ...args);
}

/**
 * Runs a command on a new terminal of 100 columns, and returns the terminal's input, with ␛ for ESC; `script` creates
 * the terminal. The environment has only the variables that Deno needs: others, such as `CI`, affect colours.
 */
export function runOnTerminal(
  env: Readonly<Record<string, string>>,
  ...args: string[]
): Promise<string> {
  return runLineOnTerminal(env, [Deno.execPath(), "run", "-A", MAIN, ...args]);
}

/** Like {@linkcode runOnTerminal}, for a whole command line, and for terminals of other widths. */
export async function runLineOnTerminal(
  env: Readonly<Record<string, string>>,
  line: readonly string[],
  columns = 100,
): Promise<string> {
  const words = line.map((word) => `'${word.replaceAll("'", "'\\''")}'`);
  const { stdout } = await new Deno.Command("script", {
    args: ["--quiet", "--return", "--command", `stty cols ${columns}; ${words.join(" ")}`, "/dev/null"],
    env: { PATH: Deno.env.get("PATH")!, HOME: Deno.env.get("HOME")!, TERM: "xterm", ...env },
    clearEnv: true,
    stdin: "null",
  }).output();
  return new TextDecoder().decode(stdout).replaceAll("\x1b", "␛");
}

/** The reason that a program cannot run here; null if it can. */
export function whyNot(command: string): string | null {
  try {
    new Deno.Command(command, { args: ["--version"], stdout: "null", stderr: "null" }).outputSync();
    return null;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return `there is no ${command}`;
    throw error;
  }
}
