/**
 * What a command is.
 */
import type { Arguments } from "./arguments.ts";

/** One command of the command line. Its parsing, its help and its completion are all made from this. */
export interface Command {
  /** What it does, in one line. */
  readonly summary: string;
  /** What its arguments are, as in `<file>… [options]`; empty if it takes none. */
  readonly inputs: string;
  /** What completion offers for its arguments: files where these are not given. */
  readonly choices?: readonly string[];
  /** What it does, in full; paragraphs are apart by an empty line. */
  readonly description: string;
  /** Its options besides `--help`, in the order of the help. */
  readonly options: Readonly<Record<string, Option>>;
  /** Command lines, without the program's name, and what they do. */
  readonly examples: readonly (readonly [line: string, meaning: string])[];
  /** What else is to be known, behind the options. */
  readonly notes?: string;
  /** Does it; rejects on failure, with a `UsageError` if it was called in a wrong way. */
  run(args: Arguments): void | Promise<void>;
}

/** An option of a command. */
export interface Option {
  /** A flag has no value, a list may be given several times. */
  readonly kind: "flag" | "text" | "list";
  /** What stands for the value in the help; completion offers files for `FILE`. */
  readonly value?: string;
  /** What it does. */
  readonly help: string;
  /** Values that completion offers. */
  readonly choices?: readonly string[];
}

/** Name → command, in the order of the help. */
export type Commands = Readonly<Record<string, Command>>;

/** `--help`, which every command has. */
export const HELP: Option = { kind: "flag", help: "print this" };
