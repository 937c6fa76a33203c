/**
 * The command line: finds the command, runs it, and derives the exit status.
 *
 * 0: success. 1: failure, with one line on stderr. 2: wrong usage, with the usage on stderr.
 *
 * ```sh
 * deno install -g -A -n fastsafetensors jsr:@x/fastsafetensors/cli
 * fastsafetensors --help
 * ```
 *
 * @module
 */
import config from "../../deno.json" with { type: "json" };
import { parseArguments, UsageError } from "./arguments.ts";
import { COMMANDS } from "./commands.ts";
import { commandHelp, commandUsage, findCommand, overview, overviewUsage, PROGRAM } from "./help.ts";
import { inOwnWords } from "./own_words.ts";
import { styled } from "./terminal.ts";
import { printable } from "./text.ts";

/** Runs a command line and returns its exit status. */
async function main([name, ...rest]: readonly string[]): Promise<number> {
  try {
    await run(name, rest);
    return 0;
  } catch (error) {
    const message = inOwnWords(error, Object.keys(commandOf(name)?.options ?? {}));
    const oneLine = printable(message.replaceAll(/\s*\n\s*/g, " "));
    console.error(`${styled("red", "error:", "stderr")} ${oneLine}`);
    if (!(error instanceof UsageError)) return 1;
    console.error(`\n${usage(name)}`);
    return 2;
  }
}

async function run(name: string | undefined, rest: readonly string[]): Promise<void> {
  if (name === undefined || name === "--help" || name === "-h") return console.log(overview(COMMANDS));
  if (name === "--version" || name === "-V") return console.log(`${PROGRAM} ${config.version}`);
  const command = findCommand(COMMANDS, name);
  const kinds = Object.entries(command.options).map(([option, { kind }]) => [option, kind] as const);
  const args = parseArguments(rest, Object.fromEntries(kinds));
  if (args.flag("help")) return console.log(commandHelp(name, command));
  await command.run(args);
}

/** The short usage after an error. */
function usage(name: string | undefined): string {
  const command = commandOf(name);
  if (name !== undefined && command) {
    return `Usage: ${commandUsage(name, command)}\n\n"${PROGRAM} ${name} --help" explains it.`;
  }
  const names = Object.keys(COMMANDS).join(", ");
  return `Usage: ${overviewUsage()}\n\nThe commands are ${names}. "${PROGRAM} --help" explains them.`;
}

function commandOf(name: string | undefined) {
  return name !== undefined && Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
}

Deno.exitCode = await main(Deno.args);
