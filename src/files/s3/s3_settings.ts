/**
 * The settings of services of the S3 interface: options of the call, and the variables and files of AWS.
 */
import { quote } from "../../base/text.ts";
import { isServiceUrl, type S3Credentials, type S3Options } from "../network_options.ts";
import type { Surroundings } from "../surroundings.ts";

/** The settings. */
export interface S3Settings {
  /** The URL of the service, without a slash at the end; null for AWS. */
  readonly endpoint: string | null;
  /** The region for a first request. */
  readonly region: string;
  /** Returns the keys; null if requests are not signed. */
  credentials(): Promise<S3Credentials | null>;
}

/** Sections of a file in AWS' format: name of the section → key → value. */
type Sections = ReadonlyMap<string, ReadonlyMap<string, string>>;

/** The keys of a profile that give credentials which this package cannot fetch itself. */
const FETCHED = ["sso_session", "sso_start_url", "role_arn", "credential_process", "web_identity_token_file"];

/**
 * Finds the settings.
 *
 * @throws {TypeError} if a variable has a wrong value, or a profile does not exist or needs another program
 */
export async function s3Settings(options: S3Options, surroundings: Surroundings): Promise<S3Settings> {
  const { variable, readText } = surroundings;
  const home = variable("HOME") ?? variable("USERPROFILE");
  const read = async (name: string, file: string) => {
    const path = variable(name) ?? (home === undefined ? undefined : `${home}/.aws/${file}`);
    return parseSections(
      (path === undefined ? null : await readText(path.replace(/^~(?=\/)/, home ?? "~"))) ?? "",
    );
  };
  const [config, keys] = await Promise.all([
    read("AWS_CONFIG_FILE", "config"),
    read("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
  ]);
  const named = options.profile ?? variable("AWS_PROFILE");
  const profile = named ?? "default";
  const ofConfig = config.get(profile === "default" ? "default" : `profile ${profile}`) ??
    config.get(`profile ${profile}`);
  const ofKeys = keys.get(profile);
  if (named !== undefined && !ofConfig && !ofKeys) {
    throw new TypeError(
      `AWS has no profile ${quote(named)}: neither ~/.aws/config nor ~/.aws/credentials has it`,
    );
  }
  const value = (key: string) => ofKeys?.get(key) ?? ofConfig?.get(key);
  const endpoint = options.endpoint ?? endpointOf(variable, config, ofConfig);
  if (endpoint !== undefined && !isServiceUrl(endpoint)) {
    throw new TypeError(`The endpoint of S3 must be an https: or http: URL, got ${quote(endpoint)}`);
  }
  return {
    endpoint: endpoint?.replace(/\/+$/, "") ?? null,
    region: options.region ?? variable("AWS_REGION") ?? variable("AWS_DEFAULT_REGION") ?? value("region") ??
      "us-east-1",
    async credentials() {
      if (options.anonymous) return null;
      if (options.credentials) return checkCredentials(await options.credentials());
      // A profile that the call names comes before the variables.
      const found = options.profile === undefined ? ofVariables(variable) : null;
      if (found) return found;
      const accessKeyId = value("aws_access_key_id"), secretAccessKey = value("aws_secret_access_key");
      const sessionToken = value("aws_session_token");
      if (accessKeyId !== undefined && secretAccessKey !== undefined) {
        return { accessKeyId, secretAccessKey, ...sessionToken !== undefined && { sessionToken } };
      }
      const fetched = FETCHED.find((key) => value(key) !== undefined);
      if (fetched === undefined) return null;
      throw new TypeError(
        `The profile ${quote(profile)} of AWS gets its keys by ${fetched}: pass them by the option ` +
          "network.s3.credentials, or as variables (aws configure export-credentials --format env)",
      );
    },
  };
}

function ofVariables(variable: Surroundings["variable"]): S3Credentials | null {
  const accessKeyId = variable("AWS_ACCESS_KEY_ID"), secretAccessKey = variable("AWS_SECRET_ACCESS_KEY");
  const sessionToken = variable("AWS_SESSION_TOKEN");
  if (accessKeyId === undefined || secretAccessKey === undefined) return null;
  return { accessKeyId, secretAccessKey, ...sessionToken !== undefined && { sessionToken } };
}

function checkCredentials(value: S3Credentials): S3Credentials {
  const { accessKeyId, secretAccessKey, sessionToken } = value ?? {};
  const isText = (text: unknown) => typeof text === "string" && text !== "";
  if (
    isText(accessKeyId) && isText(secretAccessKey) && (sessionToken === undefined || isText(sessionToken))
  ) {
    return value;
  }
  throw new TypeError(
    "network.s3.credentials() must return accessKeyId, secretAccessKey and perhaps sessionToken",
  );
}

function endpointOf(
  variable: Surroundings["variable"],
  config: Sections,
  profile: ReadonlyMap<string, string> | undefined,
): string | undefined {
  const ignored = variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") ??
    profile?.get("ignore_configured_endpoint_urls");
  if (/^true$/i.test(ignored ?? "")) return undefined;
  const services = profile?.get("services");
  return variable("AWS_ENDPOINT_URL_S3") ?? variable("AWS_ENDPOINT_URL") ??
    (services === undefined ? undefined : config.get(`services ${services}`)?.get("s3.endpoint_url")) ??
    profile?.get("endpoint_url");
}

/** Parses a file in AWS' format; an indented key below `s3 =` is `s3.key`. */
export function parseSections(text: string): Sections {
  const sections = new Map<string, Map<string, string>>();
  let section: Map<string, string> | undefined;
  let outer = "";
  for (const line of text.split(/\r?\n/)) {
    if (/^\s*(?:[#;]|$)/.test(line)) continue;
    const [, heading] = /^\s*\[\s*([^\]]+?)\s*\]/.exec(line) ?? [];
    if (heading !== undefined) {
      const name = heading.replace(/\s+/g, " ").replaceAll(/["']/g, "");
      section = sections.get(name) ?? new Map();
      sections.set(name, section);
      continue;
    }
    const [, indent, key, value] = /^(\s*)([^=\s]+)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (key === undefined) continue;
    const isInner = indent !== "" && outer !== "";
    if (!isInner) outer = value === "" ? key.toLowerCase() : "";
    section?.set(
      isInner ? `${outer}.${key.toLowerCase()}` : key.toLowerCase(),
      value!.replace(/\s+#.*$/, ""),
    );
  }
  return sections;
}
