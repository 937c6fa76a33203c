/**
 * The functions of the program's host that requests need: the portable part has no `Deno` and no environment.
 */
import type { HubPlace } from "../cache/hub_layout.ts";
import type { RemoteAddress } from "./remote_file.ts";

/** The functions of the host. */
export interface NetworkHost {
  /** Sends one request; `fetch` of the host, perhaps with certificates and proxies of its own. */
  fetch(url: string, init: RequestInit): Promise<Response>;
  /**
   * Throws if the program may not connect to a host. Never asks the user.
   *
   * @param path the file for which the connection is, for the message
   */
  checkAccess(url: URL, path: string): void;
  /** Waits for a pause between two tries; rejects with the reason of the signal. */
  pause(milliseconds: number, signal: AbortSignal): Promise<void>;
  /** Opens what requests share; {@linkcode release} closes it after as many calls. */
  retain(): void;
  release(): void;
}

/** A refusal of a server: its status, its headers, and the beginning of its body. */
export interface Refusal {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

/** A remote file by its lasting name. */
export interface RemoteName {
  /** The name in messages and in the catalog; without secrets. */
  readonly path: string;
  /** Bytes of the file, if a list of files says it. */
  readonly size?: number;
  /** SHA-256 of the file, if a list of files says it. */
  readonly sha256?: string | null;
  /** Its place on the Hub, which is its place in the Hub's cache. */
  readonly hub?: HubPlace;
  /** Whether its content never changes, so that no validator is needed. */
  readonly isFixed?: boolean;
  /** Whether its server can redirect to another. Default true. */
  readonly follows?: boolean;
  /** Changes the URL of a redirect: a mirror of the Hub names the original in its answers. */
  readonly rewrite?: (url: URL) => URL;
  /** Returns the address to ask now; its server can redirect to another. */
  locate(): Promise<RemoteAddress>;
  /**
   * Explains a refusal with an error of its own; null for the usual one. It can correct the name, such as the region of a
   * bucket, and return "again" so that {@linkcode locate} is called again.
   */
  explain?(refusal: Refusal): Error | "again" | null;
}
