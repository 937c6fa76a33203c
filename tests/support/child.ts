/**
 * Programs that tests run as processes of their own.
 */

/** How a program ended. */
export interface ChildResult {
  /** Exit status; above 128 where a signal ended it. */
  readonly code: number;
  /** What it printed. */
  readonly stdout: string;
  /** What it printed on stderr. */
  readonly stderr: string;
}

/** How to run a program. */
export interface ChildOptions {
  /** Permissions and other flags of `deno run`. */
  readonly flags: readonly string[];
  /** Arguments of the program. */
  readonly args: readonly string[];
  /** The whole environment. */
  readonly env: Readonly<Record<string, string>>;
}

/** Runs tests/children/`name` with Deno, with nobody to answer a prompt. */
export async function runChild(name: string, { flags, args, env }: ChildOptions): Promise<ChildResult> {
  const program = new URL(`../children/${name}`, import.meta.url).pathname;
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--quiet", ...flags, program, ...args],
    env: { NO_COLOR: "1", ...env },
    clearEnv: true,
    stdin: "null",
  });
  const { code, stdout, stderr } = await command.output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}
