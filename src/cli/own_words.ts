/**
 * Turns errors of the library into errors of the command line: flags for options, and commands for advice.
 */
import { systemErrorText } from "../../ffi/status.ts";
import { GroupError, OutOfMemoryError, SafeTensorsError } from "../../mod.ts";
import { quote } from "../base/text.ts";
import { PROGRAM } from "./help.ts";

/** Options of the library whose flag has another name. */
const OTHER_FLAGS: Readonly<Record<string, string>> = { maxThreads: "threads", limits: "limit" };

/**
 * The message of an error for a user of the command line.
 *
 * @param options the names of the command's options, such as `block-bytes`
 */
export function inOwnWords(error: unknown, options: readonly string[]): string {
  if (!(error instanceof Error)) return String(error);
  const message = withOwnAdvice(error, options)
    .replace(/\bget(?:Tensor|Slice|Sharded)\(("(?:[^"\\]|\\.)*")[^()]*\)/g, "the load of $1");
  return withFlags(message, options);
}

/** The message of an error, with the text for users where it ends with the system's text for programs. */
function textOf({ message }: Error): string {
  const [whole, before, number, path] =
    /(^|: )[^:]+ \(os error (\d+)\)(?:: \w+(?: '(.*)')?)?$/s.exec(message) ?? [];
  if (whole === undefined) return message;
  const reason = systemErrorText(Number(number));
  if (before !== "") return `${message.slice(0, -whole.length)}: ${reason}`;
  return `Cannot go on: ${path === undefined ? "" : `${quote(path)}: `}${reason}`;
}

/** The message, with advice for this program in place of advice for the library; without it if there is none. */
function withOwnAdvice(error: Error, options: readonly string[]): string {
  const { advice } = error as { readonly advice?: unknown };
  if (error instanceof GroupError) return ofAnotherRank(error.message, options);
  if (typeof advice !== "string") return textOf(error);
  const own = adviceOn(error, advice, options);
  return error.message.slice(0, -advice.length - 2) + (own === "" ? "" : `: ${own}`);
}

/** The message of an error on another rank, which comes as text: the advice for the library is a part of it. */
function ofAnotherRank(message: string, options: readonly string[]): string {
  const own = options.includes("names") ? `: ${FEWER}` : "";
  return message
    .replace(/: (?:dispose tensors, )?load fewer names, or [\w: ]+$/, own)
    .replace(/: open (?:it|the folder) with \w+$/, "");
}

/** Advice for too little memory. */
const FEWER = "--names loads fewer tensors";

function adviceOn(error: Error, advice: string, options: readonly string[]): string {
  if (error instanceof OutOfMemoryError) {
    if (!options.includes("names")) return "";
    return `${FEWER}${advice.includes("stagingBytes") ? ", --staging-bytes takes less" : ""}`;
  }
  if (!(error instanceof SafeTensorsError)) return advice;
  const { code, format, path = "FILE" } = error;
  if (format === "pytorch") return `convert it: ${PROGRAM} convert -i ${inShell(path)}`;
  if (format === "safetensors") return `it needs no conversion: ${PROGRAM} load ${inShell(path)}`;
  return code === "FileExists" ? "--overwrite replaces it" : advice;
}

/** A path, quoted for a shell. */
function inShell(path: string): string {
  return /^[\w./@%+=:,-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}

/**
 * `maxThreads` becomes `--threads`, `blockBytes` `--block-bytes`, `gds: "off"` `--gds off`, `validate: true`
 * `--validate`.
 */
function withFlags(message: string, options: readonly string[]): string {
  const flags = new Map(options.map((option) => [keyOf(option), `--${option}`]));
  for (const [key, option] of Object.entries(OTHER_FLAGS)) {
    if (options.includes(option)) flags.set(key, `--${option}`);
  }
  // Text in quotes stays: it is a name or a path.
  return message.split(/("(?:[^"\\]|\\.)*")/).map((part, index, parts) => {
    if (index % 2 === 1) return part;
    const next = parts[index + 1];
    return part
      .replace(/\b([a-z][a-zA-Z]*): (?:true\b|$)/g, (whole, key) => {
        const flag = flags.get(key);
        if (!flag) return whole;
        return whole.endsWith("true") ? flag : next === undefined ? whole : `${flag} `;
      })
      .replace(
        /\(limit (\w+)\)/g,
        (whole, limit) => options.includes("limit") ? `(--limit ${limit}=N allows more)` : whole,
      )
      .replace(/^limits has no option /, "--limit has no ")
      // What only programs can do: other kinds of values, options without a flag, and calls.
      .replace(" and any GPUDevice", "")
      .replace(/, or lower usrbio\.\w+/, "")
      .replace(/\b([a-z]\w*)\(\)(?=[ ,;:]|$)/g, "$1")
      .replace(/(?<=^|: )[a-z]+(?= must be )/g, (key) => flags.get(key) ?? key)
      .replace(/\b[a-z]+(?:[A-Z][a-z]+)+\b/g, (key) => flags.get(key) ?? key);
  }).join("");
}

/** The library's name of an option: `block-bytes` is `blockBytes`. */
function keyOf(option: string): string {
  return option.replaceAll(/-([a-z])/g, (_, letter) => letter.toUpperCase());
}
