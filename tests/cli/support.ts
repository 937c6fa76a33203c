/** Running the command line as its users do: in a process of its own. */

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;

/** How a command ended. */
export interface Outcome {
  /** Exit status. */
  readonly code: number;
  /** What it printed. */
  readonly stdout: string;
  /** What it complained about, without the notice of a machine that has to load by the portable engine. */
  readonly stderr: string;
}

/** Starts a command with its output piped. */
export function startCli(...args: string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", MAIN, ...args],
    env: { NO_COLOR: "1" },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Runs a command to its end. */
export async function runCli(...args: string[]): Promise<Outcome> {
  const { code, stdout, stderr } = await startCli(...args).output();
  const decoder = new TextDecoder();
  return {
    code,
    stdout: decoder.decode(stdout),
    stderr: decoder.decode(stderr).replace(/^fastsafetensors: Portable engine.*\n/, ""),
  };
}
