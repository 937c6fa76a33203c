/**
 * What a command is, and what the commands share.
 */
import { fastsafeOpen, type OpenOptions, type SafeTensorsModel } from "../../mod.ts";
import { type Arguments, type OptionKinds, UsageError } from "./arguments.ts";

/** One command of the command line. */
export interface Command {
  /** What it does, in one line. */
  readonly summary: string;
  /** What `--help` prints. */
  readonly usage: string;
  /** Its options besides `--help` and `--json`. */
  readonly options: OptionKinds;
  /** Does it; rejects on failure, with a {@linkcode UsageError} if it was called in a wrong way. */
  run(args: Arguments): Promise<void>;
}

/** Opens what the user named; see {@linkcode asUsage}. */
export async function openModel(
  inputs: readonly string[],
  options: OpenOptions = {},
): Promise<SafeTensorsModel> {
  if (inputs.length === 0) throw new UsageError("No file, folder or index was named");
  return await asUsage(() => fastsafeOpen(inputs.length === 1 ? inputs[0]! : inputs, options));
}

/** Wrong values of options, which the library refuses with a TypeError or a RangeError, are wrong usage of a command. */
export async function asUsage<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof RangeError)) throw error;
    throw new UsageError(error.message, { cause: error });
  }
}

/**
 * A filter for tensor names from patterns in which `*` stands for any characters and `?` for one; undefined without
 * patterns.
 */
export function nameFilter(patterns: readonly string[]): ((name: string) => boolean) | undefined {
  if (patterns.length === 0) return undefined;
  const any = patterns.map((pattern) =>
    RegExp.escape(pattern).replaceAll("\\*", "[^]*").replaceAll("\\?", "[^]")
  );
  const matcher = new RegExp(`^(?:${any.join("|")})$`, "u");
  return (name) => matcher.test(name);
}

/** Whatever was left out by a name filter is fine, but not everything. */
export function requireTensors(model: SafeTensorsModel, patterns: readonly string[]): void {
  if (patterns.length === 0 || model.keys().length > 0) return;
  throw new Error(`Cannot find a tensor: no name matches ${patterns.map((p) => `"${p}"`).join(" or ")}`);
}
