/**
 * The network of Deno, for files on servers: `fetch` with the certificates that the environment names, permissions, and
 * the variables and files that configure services.
 */
import { environmentVariable, isGranted, mayRead } from "../../../ffi/variables.ts";
import { quote } from "../../base/text.ts";
import type { NetworkHost } from "../http/host.ts";
import type { Surroundings } from "../surroundings.ts";

/** Variables that name files of certificate authorities. Deno itself reads `DENO_CERT`. */
const CERTIFICATES = ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"];

/** The variables that files on servers depend on, besides those of proxies, which Deno reads. */
export const NETWORK_VARIABLES: readonly string[] = [
  ...CERTIFICATES,
  "HF_ENDPOINT",
  "HF_HOME",
  "HF_HUB_CACHE",
  "HF_HUB_DISABLE_IMPLICIT_TOKEN",
  "HF_HUB_DISABLE_SYMLINKS",
  "HF_HUB_DOWNLOAD_TIMEOUT",
  "HF_HUB_ETAG_TIMEOUT",
  "HF_HUB_OFFLINE",
  "HF_TOKEN",
  "HF_TOKEN_PATH",
  "HUGGINGFACE_HUB_CACHE",
  "HUGGING_FACE_HUB_TOKEN",
  "TRANSFORMERS_OFFLINE",
  "AWS_ACCESS_KEY_ID",
  "AWS_CONFIG_FILE",
  "AWS_DEFAULT_REGION",
  "AWS_ENDPOINT_URL",
  "AWS_ENDPOINT_URL_S3",
  "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
  "AWS_PROFILE",
  "AWS_REGION",
  "AWS_SECRET_ACCESS_KEY",
  "AWS_SESSION_TOKEN",
  "AWS_SHARED_CREDENTIALS_FILE",
  "HOME",
  "USERPROFILE",
  "XDG_CACHE_HOME",
];

/** Idle connections to a host that are kept for later requests. */
const IDLE = 16;

/** Deno's network. */
export class DenoNetwork implements NetworkHost {
  #users = 0;
  #client: Deno.HttpClient | null = null;

  /** Several files are read at once over HTTP/1.1: over one connection of HTTP/2 they would be slower. */
  fetch(url: string, init: RequestInit): Promise<Response> {
    this.#client ??= Deno.createHttpClient({
      http2: false,
      poolMaxIdlePerHost: IDLE,
      caCerts: certificates(),
    });
    const options: RequestInit & { client: Deno.HttpClient } = { ...init, client: this.#client };
    return fetch(url, options);
  }

  checkAccess({ hostname, port, protocol }: URL, path: string): void {
    const host = `${hostname}:${port || (protocol === "https:" ? 443 : 80)}`;
    if (isGranted({ name: "net", host })) return;
    throw new Deno.errors.NotCapable(
      `Cannot open ${quote(path)}: no permission to connect to ${
        quote(host)
      }: run again with --allow-net=${host}`,
    );
  }

  pause(milliseconds: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = () => {
        clearTimeout(timer);
        reject(signal.reason);
      };
      const timer = setTimeout(() => {
        signal.removeEventListener("abort", end);
        resolve();
      }, milliseconds);
      if (signal.aborted) end();
      else signal.addEventListener("abort", end, { once: true });
    });
  }

  retain(): void {
    this.#users++;
  }

  release(): void {
    if (--this.#users > 0) return;
    this.#client?.close();
    this.#client = null;
  }
}

function certificates(): string[] {
  return CERTIFICATES.flatMap((name) => {
    const path = environmentVariable(name);
    if (path === undefined || !mayRead(path)) return [];
    try {
      return [Deno.readTextFileSync(path)];
    } catch (error) {
      throw new TypeError(`${name} names ${quote(path)}, which cannot be read`, { cause: error });
    }
  });
}

/** The variables and files of the system, as far as the program may read them. */
export const SURROUNDINGS: Surroundings = {
  variable: (name) => NETWORK_VARIABLES.includes(name) ? environmentVariable(name) : undefined,
  async readText(path) {
    if (!mayRead(path)) return null;
    return await Deno.readTextFile(path).catch(() => null);
  },
};
