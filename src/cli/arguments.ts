/**
 * What a command was given: files and options, checked.
 */
import { parseArgs } from "@std/cli/parse-args";
import { closestWord } from "./text.ts";

/** The command was called in a way that it does not understand; its usage is printed with the message. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** The options of a command: a flag has no value, a list may be given several times. */
export type OptionKinds = Readonly<Record<string, "flag" | "text" | "list">>;

/** Options that have a letter too. */
export const LETTERS: Readonly<Record<string, string>> = { help: "h", input: "i", output: "o" };

/** Parsed arguments. Asking for an option that the command does not declare is a mistake of the command. */
export class Arguments {
  /** What is not an option, in the order given. */
  readonly inputs: readonly string[];
  readonly #values: Readonly<Record<string, unknown>>;

  constructor(inputs: readonly string[], values: Readonly<Record<string, unknown>>) {
    this.inputs = inputs;
    this.#values = values;
  }

  /** Whether the flag was given. */
  flag(name: string): boolean {
    return this.#values[name] === true;
  }

  /** The option's value. */
  text(name: string): string | undefined {
    return this.list(name).at(-1);
  }

  /** All values of an option, in the order given. */
  list(name: string): readonly string[] {
    const value = this.#values[name] ?? [];
    const values: unknown[] = Array.isArray(value) ? value : [value];
    if (values.includes("")) throw new UsageError(`--${name} needs a value`);
    return values.map(String);
  }

  /** The option's value as a whole number from 1 on. */
  count(name: string): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const count = Number(text);
    if (/^\d+$/.test(text) && count >= 1 && Number.isSafeInteger(count)) return count;
    throw new UsageError(`--${name} must be a whole number from 1 on, got "${text}"`);
  }

  /** The option's value in bytes: a number, perhaps with a unit such as MB or GiB. */
  bytes(name: string): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const [, number, prefix, binary] = /^(\d+)(?:([kKMGT])(i?)B)?$/.exec(text) ?? [];
    const power = prefix === undefined ? 0 : "KMGT".indexOf(prefix.toUpperCase()) + 1;
    const bytes = Number(number) * (binary ? 1024 : 1000) ** power;
    if (bytes >= 1 && Number.isSafeInteger(bytes)) return bytes;
    throw new UsageError(`--${name} must be a number of bytes, such as 500MB or 1GiB, got "${text}"`);
  }
}

/**
 * Parses the arguments of a command. `--help` is an option of all commands.
 *
 * @throws {UsageError} if there is an option that is not among `kinds`
 */
export function parseArguments(args: readonly string[], kinds: OptionKinds): Arguments {
  const named = (...wanted: string[]) => Object.keys(kinds).filter((name) => wanted.includes(kinds[name]!));
  const { _: inputs, ...values } = parseArgs([...args], {
    boolean: ["help", ...named("flag")],
    string: ["_", ...named("text", "list")], // "_": a file named 007 stays "007"
    collect: named("list"),
    alias: Object.fromEntries(Object.entries(LETTERS).filter(([name]) => name === "help" || name in kinds)),
    unknown(argument, key) {
      if (key === undefined) return true; // not an option
      const given = argument.split("=")[0]!;
      throw unknownWord("option", given, ["help", ...Object.keys(kinds)].map((name) => `--${name}`));
    },
  });
  return new Arguments(inputs.map(String), values);
}

/** The error of a word that is none of the known ones, with the one that was probably meant. */
export function unknownWord(what: string, given: string, known: readonly string[]): UsageError {
  const meant = closestWord(given, known);
  const hint = meant === undefined ? "" : `: did you mean ${meant}?`;
  return new UsageError(`There is no ${what} ${given}${hint}`);
}
