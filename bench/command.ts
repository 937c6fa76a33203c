/**
 * The common parts of this folder's commands: their errors and status, and the output of reports.
 */
import { UsageError } from "../src/cli/arguments.ts";

/** Runs a command line. An error is one line on stderr and status 1; a wrong usage is explained, with status 2. */
export async function runCommand(
  usage: string,
  main: (argv: readonly string[]) => Promise<void>,
): Promise<void> {
  try {
    await main(Deno.args);
  } catch (error) {
    const wrongUsage = error instanceof UsageError;
    console.error(`error: ${(error as Error).message}${wrongUsage ? `\n\n${usage}` : ""}`);
    Deno.exitCode = wrongUsage ? 2 : 1;
  }
}

/** Writes a report as JSON, and creates its folder; does nothing without a path. */
export async function writeReport(path: string | undefined, report: unknown): Promise<void> {
  if (path === undefined) return;
  await Deno.mkdir(path.includes("/") ? path.slice(0, path.lastIndexOf("/") + 1) : ".", { recursive: true });
  await Deno.writeTextFile(path, `${JSON.stringify(report, null, 2)}\n`);
}
