/**
 * The type of a command.
 */
import type { Arguments } from "./arguments.ts";

/** One command of the command line. Parsing, help and completion are derived from it. */
export interface Command {
  /** Its purpose, in one line. */
  readonly summary: string;
  /** Its arguments, as in `<file>… [options]`; empty if it takes none. */
  readonly inputs: string;
  /** The values that completion offers for its arguments; files if absent. */
  readonly choices?: readonly string[];
  /** The full description; an empty line separates paragraphs. */
  readonly description: string;
  /** Its options besides `--help`, in the order of the help. */
  readonly options: Readonly<Record<string, Option>>;
  /** Command lines, without the program's name, and their effect. */
  readonly examples: readonly (readonly [line: string, meaning: string])[];
  /** Notes, printed after the options. */
  readonly notes?: string;
  /** Runs the command; rejects on failure, with a `UsageError` if the arguments are wrong. */
  run(args: Arguments): void | Promise<void>;
}

/** An option of a command. */
export interface Option {
  /** A flag has no value; a list may be given several times. */
  readonly kind: "flag" | "text" | "list";
  /** The placeholder of the value in the help; completion offers files for `FILE`. */
  readonly value?: string;
  /** Its effect. */
  readonly help: string;
  /** Values that completion offers. */
  readonly choices?: readonly string[];
}

/** Name → command, in the order of the help. */
export type Commands = Readonly<Record<string, Command>>;

/** `--help`: every command has it. */
export const HELP: Option = { kind: "flag", help: "print this" };
