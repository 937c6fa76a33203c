// A stand-in for jsr:@std/cli/parse-args where JSR cannot be reached: only what this project uses, over node:util.
import { parseArgs as nodeParseArgs } from "node:util";

/** The options of `@std/cli`'s parseArgs that this project uses. */
export interface ParseOptions {
  /** Options without a value. */
  boolean?: readonly string[];
  /** Options with a value. */
  string?: readonly string[];
  /** String options that may be given several times and come as a list. */
  collect?: readonly string[];
  /** Other names of an option. */
  alias?: Readonly<Record<string, string>>;
  /** Values of options that are not given. */
  default?: Readonly<Record<string, unknown>>;
  /** Called for every option that is in neither list; returning false leaves it out of the result. */
  unknown?: (arg: string, key?: string, value?: unknown) => unknown;
}

/** The parsed options, and the positional arguments under `_`. */
export type Args = { _: (string | number)[] } & Record<string, unknown>;

/** Parses `args` as the real package does for boolean and string options. */
export function parseArgs(args: string[], options: ParseOptions = {}): Args {
  const known = new Map<string, "boolean" | "string">();
  for (const name of options.boolean ?? []) known.set(name, "boolean");
  for (const name of options.string ?? []) known.set(name, "string");
  const longName = new Map<string, string>();
  for (const [a, b] of Object.entries(options.alias ?? {})) {
    if (known.has(a)) longName.set(b, a);
    else longName.set(a, b);
  }
  const { tokens } = nodeParseArgs({
    args,
    strict: false,
    allowPositionals: true,
    tokens: true,
    options: Object.fromEntries([
      ...[...known].map(([name, type]) => [name, { type }] as const),
      ...[...longName].map(([name, target]) => [name, { type: known.get(target) ?? "boolean" }] as const),
    ]),
  });
  const result: Args = { _: [] };
  for (const name of options.boolean ?? []) result[name] = false;
  for (const [name, value] of Object.entries(options.default ?? {})) result[name] = value;
  for (const token of tokens) {
    if (token.kind === "positional") result._.push(token.value);
    if (token.kind !== "option") continue;
    const name = longName.get(token.name) ?? token.name;
    if (!known.has(name)) {
      if (options.unknown?.(token.rawName, name, token.value) === false) continue;
    }
    const value = known.get(name) === "string" ? token.value ?? "" : token.value ?? true;
    if (options.collect?.includes(name)) {
      const list = result[name];
      result[name] = Array.isArray(list) ? [...list, value] : [value];
    } else result[name] = value;
  }
  return result;
}
