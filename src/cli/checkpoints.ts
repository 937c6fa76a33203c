/**
 * PyTorch checkpoints among the files that the user named, and the options for reading them.
 */
import { READ_ONLY } from "./cache.ts";
import { SafeTensorsError } from "../../mod.ts";
import { quote } from "../base/text.ts";
import { openRemote } from "../deno/remote.ts";
import { checkFiles, type Inputs, isRemote, resolveInputs } from "../files/inputs.ts";
import { checkNetwork } from "../files/network_options.ts";
import { type Naming, PYTORCH, SAFETENSORS } from "../files/model_folder.ts";
import { LocalNames } from "../files/native/local_names.ts";
import { describeContent, TELLING_BYTES } from "../format/file_hints.ts";
import type { CheckpointOptions } from "../pytorch/mod.ts";
import { type Arguments, UsageError } from "./arguments.ts";
import type { Option } from "./command.ts";

/** The options `--root` and `--limit`, for {@linkcode checkpointOptionsOf}. */
export const CHECKPOINT: Readonly<Record<"root" | "limit", Option>> = {
  root: {
    kind: "text",
    value: "NAME",
    help:
      'the part of a PyTorch checkpoint to read, such as state_dict_ema; "none": all of it (default: state_dict, ' +
      "if there is one)",
  },
  limit: {
    kind: "list",
    value: "NAME=N",
    help:
      "another limit for a PyTorch checkpoint that you trust, such as maxOpcodes=100000000; an error names the limit",
  },
};

/** The options of the library for a checkpoint; those that were not given are absent. */
export function checkpointOptionsOf(args: Arguments): CheckpointOptions {
  const root = args.text("root");
  const limits = args.list("limit").map((given) => {
    const [, name, number] = /^(\w+)=(\d+)$/.exec(given) ?? [];
    if (name !== undefined) return [name, Number(number)];
    throw new UsageError(
      `--limit must be a name and a number, such as maxOpcodes=1000, got ${quote(given)}`,
    );
  });
  return {
    ...root === undefined ? {} : { root: root === "none" ? "" : root },
    ...limits.length === 0 ? {} : { limits: Object.fromEntries(limits) },
  };
}

/**
 * The kind of the files that the user named, by the content of the first one; if its content is neither, by its name.
 * An error in a name or a file is left to the function that opens them.
 */
export async function namingOf(inputs: readonly string[]): Promise<Naming> {
  try {
    using found = await findInputs(inputs);
    const [path] = found.inputs.paths;
    return isRemote(path!) ? namingByName(path!) : await namingOfFile(path!);
  } catch (error) {
    return error instanceof SafeTensorsError && error.format === "pytorch" ? PYTORCH : SAFETENSORS;
  }
}

/** The files of the inputs, as the function that opens them finds them. Dispose it after use. */
export async function findInputs(
  given: readonly string[],
  naming?: Naming,
): Promise<{ readonly inputs: Inputs } & Disposable> {
  const paths = checkFiles(given, { size: 1 });
  if (!paths.some(isRemote)) {
    const inputs = await resolveInputs(new LocalNames(), given, { size: 1 }, naming);
    return { inputs, [Symbol.dispose]: () => {} };
  }
  const remote = await openRemote(paths, { network: checkNetwork(), cache: READ_ONLY });
  try {
    const inputs = await resolveInputs(remote.names, given, { size: 1 }, naming);
    return { inputs, [Symbol.dispose]: () => remote[Symbol.dispose]() };
  } catch (error) {
    remote[Symbol.dispose]();
    throw error;
  }
}

/** The kind of a file on a server, whose content is not requested for that. */
function namingByName(path: string): Naming {
  const name = path.replace(/[?#].*$/s, "").toLowerCase();
  return PYTORCH.files.some((suffix) => name.endsWith(suffix)) ? PYTORCH : SAFETENSORS;
}

async function namingOfFile(path: string): Promise<Naming> {
  using file = await Deno.open(path);
  const start = new Uint8Array(TELLING_BYTES);
  const length = await file.read(start) ?? 0;
  const kind = describeContent(start.subarray(0, length))?.kind;
  const isNamed = PYTORCH.files.some((suffix) => path.toLowerCase().endsWith(suffix));
  return kind === "pytorch" || kind !== "safetensors" && isNamed ? PYTORCH : SAFETENSORS;
}
