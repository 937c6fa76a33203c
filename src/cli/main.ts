/**
 * The command line: finds the command, runs it, and turns its outcome into an exit status.
 *
 * 0: done. 1: failed, with one line on stderr. 2: called in a wrong way, with the usage on stderr.
 */
import { parseArguments, UsageError } from "./arguments.ts";
import type { Command } from "./command.ts";
import { convert } from "./convert.ts";
import { demo } from "./demo.ts";
import { doctorCommand } from "./doctor.ts";
import { inspect } from "./inspect.ts";
import { load } from "./load.ts";
import { printable } from "./text.ts";
import { verify } from "./verify.ts";

const COMMANDS: Readonly<Record<string, Command>> = {
  load,
  inspect,
  verify,
  convert,
  demo,
  doctor: doctorCommand,
};

const USAGE = `Usage: deno task <command> [options]

${Object.entries(COMMANDS).map(([name, { summary }]) => `  ${name.padEnd(8)} ${summary}`).join("\n")}

Every command explains itself with --help.`;

/** Runs a command line and returns its exit status. */
async function main([name, ...rest]: readonly string[]): Promise<number> {
  const command = name !== undefined && Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  try {
    if (command) {
      const args = parseArguments(rest, command.options);
      if (args.flag("help")) console.log(command.usage);
      else await command.run(args);
    } else if (name === "--help" || name === "-h") {
      console.log(USAGE);
    } else {
      throw new UsageError(name === undefined ? "No command was given" : `There is no command "${name}"`);
    }
    return 0;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    console.error(`error: ${printable(message.replaceAll(/\s*\n\s*/g, " "))}`);
    if (!(error instanceof UsageError)) return 1;
    console.error(`\n${command?.usage ?? USAGE}`);
    return 2;
  }
}

Deno.exitCode = await main(Deno.args);
