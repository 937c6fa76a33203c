/**
 * The text that `--help` prints.
 */
import { LETTERS } from "./arguments.ts";
import { type Command, type Commands, HELP, type Option } from "./command.ts";
import { styled, terminalColumns } from "./terminal.ts";
import { formatTable, wrap } from "./text.ts";

/** The name of the program. */
export const PROGRAM = "fastsafetensors";

/** Lines of help are at most this long, and at most as long as the terminal is wide. */
const WIDTH = Math.min(100, terminalColumns(100));

/** The help of all commands together. */
export function overview(commands: Commands): string {
  const rows = Object.entries(commands).map(([name, { summary }]) => [`  ${name}`, summary]);
  return [
    `${styled("bold", "Usage:")} ${overviewUsage()}`,
    `${styled("bold", "Commands:")}\n${formatTable(rows)}`,
    `${styled("bold", "Options:")}\n${
      formatTable([["  -h, --help", "print this; after a command, its help"], [
        "  -V, --version",
        "print the version",
      ]])
    }`,
    wrap(
      "Colours and progress are for terminals only, and NO_COLOR=1 switches colours off. The exit status is 0; 1 on " +
        "failure, with one line on stderr; 2 on wrong usage; 128 plus the signal's number after a signal.",
      WIDTH,
    ),
  ].join("\n\n");
}

/** The usage of the program, in one line. */
export function overviewUsage(): string {
  return `${PROGRAM} <command> [options]`;
}

/** The usage of a command, in one line. */
export function commandUsage(name: string, { inputs }: Command): string {
  return [PROGRAM, name, ...inputs === "" ? [] : [inputs], "[options]"].join(" ");
}

/** The help of a command. */
export function commandHelp(name: string, command: Command): string {
  const { description, options, examples, notes } = command;
  return [
    `${styled("bold", "Usage:")} ${commandUsage(name, command)}`,
    wrap(description, WIDTH),
    `${styled("bold", "Options:")}\n${describeOptions({ ...options, help: HELP })}`,
    ...notes === undefined ? [] : [wrap(notes, WIDTH)],
    `${styled("bold", "Examples:")}\n${
      examples.map(([line, meaning]) => `  ${styled("dim", `# ${meaning}`)}\n  ${PROGRAM} ${line}`).join("\n")
    }`,
  ].join("\n\n");
}

function describeOptions(options: Readonly<Record<string, Option>>): string {
  const heads = Object.entries(options).map(([name, { value }]) => {
    const letter = LETTERS[name] === undefined ? "    " : `-${LETTERS[name]}, `;
    return `  ${letter}--${name}${value === undefined ? "" : ` ${value}`}`;
  });
  const column = Math.max(...heads.map((head) => head.length)) + 2;
  return Object.values(options).map(({ help }, index) => {
    const lines = wrap(help, WIDTH - column).split("\n");
    return heads[index]!.padEnd(column) + lines.join(`\n${" ".repeat(column)}`);
  }).join("\n");
}
