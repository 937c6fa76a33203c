/**
 * The arguments of a command: files and options, checked.
 */
import { parseArgs } from "@std/cli/parse-args";
import { parseByteSize } from "../base/byte_size.ts";
import { closestWord } from "../base/closest_word.ts";
import { quote } from "../base/text.ts";

/** Wrong arguments of a command; its usage is printed with the message. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** The options of a command. A flag has no value; a list may be given several times. */
export type OptionKinds = Readonly<Record<string, "flag" | "text" | "list">>;

/** Options that also have a letter. */
export const LETTERS: Readonly<Record<string, string>> = { help: "h", input: "i", output: "o" };

/** Parsed arguments. */
export class Arguments {
  /** The arguments that are not options, in the order given. */
  readonly inputs: readonly string[];
  /** Option → its values, in the order given; a flag has none. */
  readonly #given: ReadonlyMap<string, readonly string[]>;

  /** Use {@linkcode parseArguments}. */
  constructor(inputs: readonly string[], given: ReadonlyMap<string, readonly string[]>) {
    this.inputs = inputs;
    this.#given = given;
  }

  /** Whether the flag was given. */
  flag(name: string): boolean {
    return this.#given.has(name);
  }

  /**
   * The option's value.
   *
   * @throws {UsageError} if it was given several times
   */
  text(name: string): string | undefined {
    const [value, ...more] = this.list(name);
    if (more.length > 0) throw new UsageError(`--${name} can be given once, got it ${more.length + 1} times`);
    return value;
  }

  /** All values of an option, in the order given. */
  list(name: string): readonly string[] {
    return this.#given.get(name) ?? [];
  }

  /** The option's value, which must be one of these. */
  choice<T extends string>(name: string, values: readonly T[]): T | undefined {
    const text = this.text(name);
    if (text === undefined || (values as readonly string[]).includes(text)) return text as T | undefined;
    throw new UsageError(`--${name} must be one of ${values.join(", ")}, got ${quote(text)}`);
  }

  /** The option's value as a whole number from 1 on. */
  count(name: string): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const count = Number(text);
    if (/^\d+$/.test(text) && count >= 1 && Number.isSafeInteger(count)) return count;
    throw new UsageError(`--${name} must be a whole number from 1 on, got ${quote(text)}`);
  }

  /** The option's value in bytes: a number, perhaps with a unit such as MB or GiB. */
  bytes(name: string): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const bytes = parseByteSize(text);
    if (bytes !== undefined) return bytes;
    throw new UsageError(`--${name} must be a number of bytes, such as 500MB or 1GiB, got ${quote(text)}`);
  }
}

/**
 * Parses the arguments of a command. `--help` is an option of all commands. A value that begins with a dash must be
 * joined to its option: `--name=-x`.
 *
 * @throws {UsageError} if an option is not in `kinds`, lacks its value, or has a value and takes none
 */
export function parseArguments(args: readonly string[], kinds: OptionKinds): Arguments {
  const known: OptionKinds = { ...kinds, help: "flag" };
  const names = Object.keys(known);
  const flags = names.filter((name) => known[name] === "flag");
  const texts = names.filter((name) => known[name] !== "flag");
  for (const argument of args) { // before they are parsed: the parser ignores the value of a flag
    if (argument === "--") break;
    const [, name, value] = /^--([^=]+)=(.*)$/s.exec(argument) ?? [];
    if (flags.includes(name!)) throw new UsageError(`--${name} takes no value, got ${quote(value!)}`);
    if (texts.includes(name!) && value === "") throw new UsageError(`--${name} needs a value`);
  }
  const parsed = parseArgs([...args], {
    string: [...texts, "_"],
    boolean: flags,
    collect: names,
    alias: Object.fromEntries(names.filter((name) => LETTERS[name]).map((name) => [name, LETTERS[name]!])),
    unknown(argument, key) {
      if (key === undefined) return;
      throw unknownWord("option", argument.split("=")[0]!, names.map((name) => `--${name}`));
    },
  }) as unknown as Readonly<Record<string, readonly string[]>>;
  const given = new Map<string, readonly string[]>();
  for (const name of names) {
    const values = parsed[name] ?? [];
    if (values.length === 0) continue;
    given.set(name, flags.includes(name) ? [] : values);
    if (texts.includes(name) && values.includes("")) throw new UsageError(`--${name} needs a value`);
  }
  return new Arguments(parsed["_"]!, given);
}

/** The error for an unknown word; it suggests the closest known one. */
export function unknownWord(what: string, given: string, known: readonly string[]): UsageError {
  const meant = closestWord(given, known);
  const hint = meant === undefined ? "" : `: did you mean ${meant}?`;
  return new UsageError(`There is no ${what} ${given}${hint}`);
}
