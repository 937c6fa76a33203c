/**
 * The settings of the Hub: options of the call, and the variables and the token file of its Python package.
 */
import { quote } from "../../base/text.ts";
import { type HubOptions, isServiceUrl } from "../network_options.ts";
import type { Surroundings } from "../surroundings.ts";

/** The settings. */
export interface HubSettings {
  /** The URL of the Hub, without a slash at the end. */
  readonly endpoint: string;
  readonly token: string | null;
  readonly offline: boolean;
  /** Seconds of a stall, if a variable says them. */
  readonly downloadSeconds: number | undefined;
  readonly listSeconds: number | undefined;
}

/** The address of the Hub. */
export const HUB = "https://huggingface.co";

/**
 * Finds the settings.
 *
 * @throws {TypeError} if a variable or the token has a wrong value
 */
export async function hubSettings(options: HubOptions, surroundings: Surroundings): Promise<HubSettings> {
  const variable = (name: string) => surroundings.variable(name);
  const endpoint = options.endpoint ?? variable("HF_ENDPOINT") ?? HUB;
  if (!isServiceUrl(endpoint)) {
    throw new TypeError(`HF_ENDPOINT must be an https: or http: URL, got ${quote(endpoint)}`);
  }
  const isSet = (name: string) => /^(?:1|on|yes|true)$/i.test(variable(name) ?? "");
  return {
    endpoint: endpoint.replace(/\/+$/, ""),
    token: await findToken(options, surroundings, isSet("HF_HUB_DISABLE_IMPLICIT_TOKEN")),
    offline: options.offline ?? (isSet("HF_HUB_OFFLINE") || isSet("TRANSFORMERS_OFFLINE")),
    downloadSeconds: seconds("HF_HUB_DOWNLOAD_TIMEOUT", variable("HF_HUB_DOWNLOAD_TIMEOUT")),
    listSeconds: seconds("HF_HUB_ETAG_TIMEOUT", variable("HF_HUB_ETAG_TIMEOUT")),
  };
}

function seconds(name: string, value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const number = Number(value);
  if (number > 0 && number <= 3600) return number;
  throw new TypeError(`${name} must be a number of seconds, got ${quote(value)}`);
}

async function findToken(
  { token }: HubOptions,
  { variable, readText }: Surroundings,
  isExplicit: boolean,
): Promise<string | null> {
  if (token === false || token === undefined && isExplicit) return null;
  const home = variable("HF_HOME") ??
    (variable("XDG_CACHE_HOME") !== undefined ? `${variable("XDG_CACHE_HOME")}/huggingface` : undefined) ??
    (variable("HOME") !== undefined ? `${variable("HOME")}/.cache/huggingface` : undefined);
  const file = variable("HF_TOKEN_PATH") ?? (home === undefined ? undefined : `${home}/token`);
  const found = (token ?? variable("HF_TOKEN") ?? variable("HUGGING_FACE_HUB_TOKEN") ??
    (file === undefined ? null : await readText(expand(file, variable))) ?? "").trim();
  if (found === "") return null;
  if (/^[\x21-\x7e]+$/.test(found)) return found;
  throw new TypeError(
    "The token for the Hub has characters that no token has: HF_TOKEN or the token file is wrong",
  );
}

/** Replaces `~` and variables, as the Python package does. */
function expand(path: string, variable: (name: string) => string | undefined): string {
  return path.replace(/^~(?=\/|$)/, variable("HOME") ?? "~")
    .replace(/\$(?:\{(\w+)\}|(\w+))/g, (whole, braced, plain) => variable(braced ?? plain) ?? whole);
}
