/**
 * Facts about options that the completion scripts of all shells need.
 */
import { LETTERS } from "../arguments.ts";
import { type Command, HELP, type Option } from "../command.ts";

/** The options of a command, including `--help`. */
export function allOptions({ options }: Command): [name: string, option: Option][] {
  return Object.entries({ ...options, help: HELP });
}

/** The spellings of an option: `-o`, `--output`. */
export function flagsOf(name: string): string[] {
  return [...LETTERS[name] === undefined ? [] : [`-${LETTERS[name]}`], `--${name}`];
}

/** Whether the option's value is a path. */
export function takesFile({ value }: Option): boolean {
  return value === "FILE";
}
