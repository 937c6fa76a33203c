// A stand-in for jsr:@std/cli/parse-args where JSR cannot be reached: the options of `parseArgs` that this project uses.
// It takes the same arguments as the real function; values of options are text only.

/** The options of `@std/cli`'s parseArgs that this project uses. */
export interface ParseOptions {
  /** Options with a value; "_": positional arguments stay text. */
  string?: readonly string[];
  /** Options without a value. */
  boolean?: readonly string[];
  /** Options whose values are collected in a list. */
  collect?: readonly string[];
  /** Options that also have another name. */
  alias?: Readonly<Record<string, string>>;
  /** Values of options that are not given. */
  default?: Readonly<Record<string, string>>;
  /** Called with a positional argument, or an option that no other member names; false leaves it out. */
  unknown?: (argument: string, key?: string, value?: unknown) => unknown;
}

/** The parsed options, and the positional arguments under `_`. */
export type Args = { _: string[] } & Record<string, unknown>;

/** Parses `args` as the real package does. */
export function parseArgs(args: string[], options: ParseOptions = {}): Args {
  const { string = [], boolean = [], collect = [], alias = {}, unknown = () => true } = options;
  const pairs = Object.entries(alias).flatMap(([name, other]) => [[name, other], [other, name]] as const);
  const both = (names: readonly string[]) =>
    new Set([...names, ...pairs.filter(([name]) => names.includes(name)).map(([, other]) => other)]);
  const [texts, flags, lists] = [both(string), both(boolean), both(collect)];
  const parsed: Args = { _: [] };
  const set = (key: string, value: string | boolean, argument: string) => {
    const isKnown = texts.has(key) || flags.has(key) || pairs.some(([name]) => name === key);
    if (!isKnown && unknown(argument, key, value) === false) return;
    for (const name of [key, ...pairs.filter(([first]) => first === key).map(([, other]) => other)]) {
      if (lists.has(name)) ((parsed[name] ??= []) as unknown[]).push(value);
      else parsed[name] = value;
    }
  };
  const end = args.includes("--") ? args.indexOf("--") : args.length;
  for (let at = 0; at < end; at++) {
    const argument = args[at]!;
    const next = at + 1 < end ? args[at + 1] : undefined;
    const long = /^--(?<key>.+?)(?:=(?<value>.+))?$/s.exec(argument)?.groups as {
      key: string;
      value?: string;
    } | undefined;
    if (long) {
      const { key, value } = long;
      if (value !== undefined) set(key, flags.has(key) ? value !== "false" : value, argument);
      else if (!flags.has(key) && next && !next.startsWith("-")) set(key, args[++at]!, argument);
      else if (next === "true" || next === "false") set(key, args[++at] === "true", argument);
      else set(key, texts.has(key) ? "" : true, argument);
    } else if (/^-[^-]/s.test(argument)) {
      const letters = argument.slice(1);
      for (const letter of letters.slice(0, -1)) set(letter, texts.has(letter) ? "" : true, argument);
      const last = letters.at(-1)!;
      if (!flags.has(last) && next && !/^--?[^-]/.test(next)) set(last, args[++at]!, argument);
      else if (next === "true" || next === "false") set(last, args[++at] === "true", argument);
      else set(last, texts.has(last) ? "" : true, argument);
    } else if (unknown(argument) !== false) {
      parsed._.push(argument);
    }
  }
  for (const [name, value] of Object.entries(options.default ?? {})) parsed[name] ??= value;
  for (const name of flags) parsed[name] ??= lists.has(name) ? [] : false;
  for (const name of texts) if (lists.has(name)) parsed[name] ??= [];
  parsed._.push(...args.slice(end + 1));
  return parsed;
}
