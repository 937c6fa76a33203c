// A stand-in for jsr:@std/cli/parse-args where JSR cannot be reached: only what this project uses, over node:util.
import { parseArgs as nodeParseArgs } from "node:util";

/** The options of `@std/cli`'s parseArgs that this project uses. */
export interface ParseOptions {
  /** Options with a value; "_": positional arguments stay text. */
  string: readonly string[];
  /** Values of options that are not given. */
  default?: Readonly<Record<string, string>>;
}

/** The parsed options, and the positional arguments under `_`. */
export type Args = { _: string[] } & Record<string, unknown>;

/** Parses `args` as the real package does for options with a value. */
export function parseArgs(args: string[], options: ParseOptions): Args {
  const names = options.string.filter((name) => name !== "_");
  const { values, positionals } = nodeParseArgs({
    args,
    strict: false,
    allowPositionals: true,
    options: Object.fromEntries(names.map((name) => [name, { type: "string" }])),
  });
  return { ...options.default, ...values, _: positionals };
}
