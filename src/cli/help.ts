/**
 * The text that `--help` prints.
 */
import { quote } from "../base/text.ts";
import { LETTERS, unknownWord } from "./arguments.ts";
import { type Command, type Commands, HELP } from "./command.ts";
import { styled, terminalColumns } from "./terminal.ts";
import { wrap } from "./text.ts";

/** The name of the program. */
export const PROGRAM = "fastsafetensors";

/** Lines of help are at most this long, and at most as long as the terminal is wide. */
const WIDTH = Math.min(100, terminalColumns(100));

/** Beside the names in a list there are at least this many columns for their texts; else the texts are below. */
const LEAST = 30;

/** The help of all commands together. */
export function overview(commands: Commands): string {
  return [
    usageLine(overviewUsage()),
    `${styled("bold", "Commands:")}\n${
      formatList(Object.entries(commands).map(([name, { summary }]) => [name, summary]))
    }`,
    `${styled("bold", "Options:")}\n${
      formatList([
        ["-h, --help", "print this; after a command, its help"],
        ["-V, --version", "print the version"],
      ])
    }`,
    wrap(
      "Colours and progress are for terminals only, and NO_COLOR=1 switches colours off. The exit status is 0; 1 on " +
        "failure, with one line on stderr; 2 on wrong usage; 128 plus the signal's number after a signal.",
      WIDTH,
    ),
  ].join("\n\n");
}

/**
 * The command `help`.
 *
 * @param commands all commands, including this one
 */
export function helpCommand(commands: () => Commands): Command {
  return {
    summary: "Print the help of a command",
    inputs: "[command]",
    get choices() {
      return Object.keys(commands());
    },
    description: "Prints the help of a command, or without one the list of all commands.",
    options: {},
    examples: [["help", "all commands"], ["help load", "what load does, with its options"]],

    run({ inputs: [name] }) {
      console.log(
        name === undefined ? overview(commands()) : commandHelp(name, findCommand(commands(), name)),
      );
    },
  };
}

/**
 * The command of a name.
 *
 * @throws {UsageError} if there is none; it suggests the closest one
 */
export function findCommand(commands: Commands, name: string): Command {
  if (Object.hasOwn(commands, name)) return commands[name]!;
  throw unknownWord("command", quote(name), Object.keys(commands).map(quote));
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
  const list = Object.entries({ ...options, help: HELP }).map(([option, { value, help }]) => {
    const letter = LETTERS[option] === undefined ? "    " : `-${LETTERS[option]}, `;
    return [`${letter}--${option}${value === undefined ? "" : ` ${value}`}`, help] as const;
  });
  return [
    usageLine(commandUsage(name, command)),
    wrap(description, WIDTH),
    `${styled("bold", "Options:")}\n${formatList(list)}`,
    ...notes === undefined ? [] : [wrap(notes, WIDTH)],
    `${styled("bold", "Examples:")}\n${examples.map(formatExample).join("\n")}`,
  ].join("\n\n");
}

function usageLine(usage: string): string {
  const [first, ...more] = wrap(`Usage: ${usage}`, WIDTH - 2).split("\n");
  return [first!.replace("Usage:", styled("bold", "Usage:")), ...more].join("\n  ");
}

/** Names with texts beside or below them. */
function formatList(rows: readonly (readonly [name: string, text: string])[]): string {
  const column = Math.max(...rows.map(([name]) => name.length)) + 4;
  const isBeside = WIDTH - column >= LEAST;
  const indent = " ".repeat(isBeside ? column : 8);
  return rows.map(([name, text]) => {
    const head = isBeside ? `  ${name}`.padEnd(column) : `  ${name}\n${indent}`;
    return head + wrap(text, WIDTH - indent.length).replaceAll("\n", `\n${indent}`);
  }).join("\n");
}

/** An example; a command line that is too long goes on after a backslash, as in a shell. */
function formatExample([line, meaning]: readonly [line: string, meaning: string]): string {
  const comment = wrap(meaning, WIDTH - 4).split("\n").map((part) => `  ${styled("dim", `# ${part}`)}`);
  const command = `${PROGRAM} ${line}`;
  const fits = command.length + 2 <= WIDTH;
  return [...comment, `  ${fits ? command : wrap(command, WIDTH - 6).replaceAll("\n", " \\\n    ")}`].join(
    "\n",
  );
}
