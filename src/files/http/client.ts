/**
 * Sends requests through the host's fetch: redirects by hand, a limit for stalls, and checks of every answer.
 */
import { RemoteError } from "../../base/errors.ts";
import { messageOf, quote } from "../../base/text.ts";
import { askedPause, TemporaryFailure } from "./attempts.ts";
import type { NetworkHost, Refusal } from "./host.ts";
import { labelOf, originOf } from "./labels.ts";
import type { RemoteAddress } from "./remote_file.ts";

/** Most redirects of one request. */
const REDIRECTS = 10;

/** Most bytes of a refusal's body that are read, for its message. */
const REFUSAL_BYTES = 16 * 1024;

/** Bytes of the memory between a body and its destination: BYOB reads into larger or smaller memory are slower. */
const BOUNCE = 2 ** 20;

/** The body of an answer, whose reads end with an error after a stall. */
export class Body {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array> | ReadableStreamBYOBReader | null;
  readonly #watch: StallWatch;
  readonly #bounces: Bounces;
  /** Bytes that were received but not wanted yet. */
  #rest = new Uint8Array();

  constructor(stream: ReadableStream<Uint8Array> | null, watch: StallWatch, bounces: Bounces) {
    this.#reader = stream && readerOf(stream);
    this.#watch = watch;
    this.#bounces = bounces;
  }

  /**
   * Fills `target` or a part of it.
   *
   * @param onBytes called with the number of bytes that have arrived
   * @returns the bytes in `target`; fewer only at the end of the body
   * @throws {TemporaryFailure} if the connection is lost or stalls
   */
  async fill(target: Uint8Array<ArrayBuffer>, onBytes: (bytes: number) => void = () => {}): Promise<number> {
    let done = 0;
    while (done < target.byteLength) {
      const bytes = this.#rest.byteLength > 0 ? this.#rest : await this.#next();
      if (!bytes) break;
      const taken = Math.min(bytes.byteLength, target.byteLength - done);
      target.set(bytes.subarray(0, taken), done); // throws if the user has transferred the memory
      this.#rest = bytes.subarray(taken);
      done += taken;
      onBytes(taken);
    }
    return done;
  }

  /** Reads and drops bytes; returns how many there were. */
  async skip(length: number): Promise<number> {
    let skipped = 0;
    while (skipped < length) {
      const bytes = this.#rest.byteLength > 0 ? this.#rest : await this.#next();
      if (!bytes) break;
      const taken = Math.min(bytes.byteLength, length - skipped);
      this.#rest = bytes.subarray(taken);
      skipped += taken;
    }
    return skipped;
  }

  /** Whether the body has no more bytes; the connection can then be used again. */
  async isAtEnd(): Promise<boolean> {
    if (this.#rest.byteLength > 0) return false;
    const bytes = await this.#next();
    if (bytes) this.#rest = bytes;
    return !bytes;
  }

  /** Ends the request if it still runs. */
  async close(): Promise<void> {
    this.#bounces.give(this);
    await this.#reader?.cancel().catch(() => {});
    this.#watch.end();
  }

  async #next(): Promise<Uint8Array<ArrayBuffer> | null> {
    const reader = this.#reader;
    if (!reader) return null;
    return await this.#watch.during(async () => {
      for (;;) {
        const { done, value } = reader instanceof ReadableStreamDefaultReader
          ? await reader.read()
          : await reader.read(this.#bounces.of(this));
        if (value && !(reader instanceof ReadableStreamDefaultReader)) {
          this.#bounces.keep(this, value.buffer as ArrayBuffer);
        }
        if (done) return null;
        if (value && value.byteLength > 0) return value as Uint8Array<ArrayBuffer>;
      }
    });
  }
}

function readerOf(stream: ReadableStream<Uint8Array>) {
  try {
    return stream.getReader({ mode: "byob" });
  } catch { // some hosts have bodies without it
    return stream.getReader();
  }
}

/** The memory between bodies and destinations, used again by later requests. */
class Bounces {
  readonly #free: ArrayBuffer[] = [];
  readonly #used = new Map<object, ArrayBuffer>();

  of(owner: object): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#used.get(owner) ?? this.#free.pop() ?? new ArrayBuffer(BOUNCE));
  }

  /** Keeps the memory that a read has returned: each read detaches the buffer that it was given. */
  keep(owner: object, buffer: ArrayBuffer): void {
    this.#used.set(owner, buffer);
  }

  give(owner: object): void {
    const buffer = this.#used.get(owner);
    this.#used.delete(owner);
    if (buffer && !buffer.detached && this.#free.length < 16) this.#free.push(buffer);
  }
}

/** Aborts a request after some seconds without a byte. Time in which nobody reads does not count. */
class StallWatch {
  readonly signal: AbortSignal;
  readonly #seconds: number;
  readonly #abort = new AbortController();
  readonly #outer: AbortSignal;
  readonly #forward = () => this.#abort.abort(this.#outer.reason);
  #stalled = false;

  constructor(seconds: number, outer: AbortSignal) {
    this.#seconds = seconds;
    this.#outer = outer;
    this.signal = this.#abort.signal;
    if (outer.aborted) this.#forward();
    else outer.addEventListener("abort", this.#forward);
  }

  /** Waits for a step of the request; its failures become temporary ones, except for an abort. */
  async during<R>(step: () => Promise<R>): Promise<R> {
    const timer = setTimeout(() => {
      this.#stalled = true;
      this.#abort.abort(new Error("stalled"));
    }, this.#seconds * 1000);
    try {
      return await step();
    } catch (error) {
      this.#outer.throwIfAborted();
      if (this.#stalled) throw new TemporaryFailure(`no byte came for ${this.#seconds} seconds`);
      throw failureOf(error);
    } finally {
      clearTimeout(timer);
    }
  }

  end(): void {
    this.#outer.removeEventListener("abort", this.#forward);
  }
}

/** Failures of connections that no other try mends: certificates, and names of hosts. */
const LASTING =
  /certificate|UnknownIssuer|CaUsedAsEndEntity|Name or service not known|No address associated|nodename nor/;

/** Turns an error of fetch into a failure without the URL, which can be secret. */
function failureOf(error: unknown): Error {
  if (error instanceof Error && error.name === "NotCapable") return error;
  const inner = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const reason = messageOf(inner)
    .replace(/^.*\bfor (?:url )?\(?\S+?\)?(?: \(\S+\))?: /s, "")
    .replace(/^client error \(\w+\): /, "");
  if (/:\/\/|[?&]\w+=/.test(reason)) return new TemporaryFailure("the connection failed");
  if (LASTING.test(reason)) return new ConnectionRefused(reason);
  return new TemporaryFailure(reason === "" || reason === "fetch failed" ? "the connection failed" : reason);
}

/** A connection that cannot be made, whose reason does not pass. */
export class ConnectionRefused extends Error {
  override readonly name = "ConnectionRefused";
}

/** An answer with the address that gave it. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Body;
  /** The address that answered, after all redirects. */
  readonly address: RemoteAddress;
  /** The headers of the redirects on the way, which say more of the file than those of the last host. */
  readonly redirects: readonly Headers[];
}

/** A request: all are GET. */
export interface Asked {
  /** The file for which it is, in messages. */
  readonly path: string;
  /** Headers besides those of the address, which every host gets: a range and validators. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutSeconds: number;
  readonly signal: AbortSignal;
  /** Whether redirects are followed. Default true. */
  readonly follows?: boolean;
  /** Changes the URL of a redirect. */
  readonly rewrite?: (url: URL) => URL;
}

/** Sends requests. */
export class HttpClient {
  readonly host: NetworkHost;
  readonly #bounces = new Bounces();

  constructor(host: NetworkHost) {
    this.host = host;
  }

  /**
   * Sends one request and follows its redirects: the headers of the address go to its own host only, and from https only
   * to https. Close the body of the answer.
   *
   * @throws {TemporaryFailure} if the connection fails or stalls
   * @throws {RemoteError} if a redirect is not safe, or the body is encoded
   */
  async get(address: RemoteAddress, asked: Asked): Promise<Answer> {
    const { path, signal, follows = true } = asked;
    const redirects: Headers[] = [];
    for (let at = address;;) {
      const url = new URL(at.url);
      this.host.checkAccess(url, path);
      const watch = new StallWatch(asked.timeoutSeconds, signal);
      const headers = { ...at.headers, ...asked.headers, "accept-encoding": "identity" };
      let response: Response;
      try {
        response = await watch.during(() =>
          this.host.fetch(at.url, { headers, redirect: "manual", signal: watch.signal, cache: "no-store" })
        );
      } catch (error) {
        watch.end();
        throw error instanceof ConnectionRefused ? refusedConnection(path, url, error.message) : error;
      }
      const body = new Body(response.body, watch, this.#bounces);
      const answer = { status: response.status, headers: response.headers, body, address: at, redirects };
      if (!isRedirect(response) || !follows) {
        if (isEncoded(response)) {
          await body.close();
          throw encodedBody(path, response);
        }
        return answer;
      }
      await body.close();
      if (redirects.push(response.headers) > REDIRECTS) {
        throw unsafe(path, `the server redirects more than ${REDIRECTS} times`, response.status);
      }
      at = redirected(path, at, response, asked.rewrite);
    }
  }

  /** Reads the beginning of a refusal's body, and closes it. */
  async refusal({ status, headers, body }: Answer): Promise<Refusal> {
    const bytes = new Uint8Array(REFUSAL_BYTES);
    const length = await body.fill(bytes).catch(() => 0);
    await body.close();
    return { status, headers, text: new TextDecoder().decode(bytes.subarray(0, length)) };
  }
}

function isRedirect({ status, headers }: Response): boolean {
  return status >= 300 && status < 400 && status !== 304 && headers.has("location");
}

/** Returns the address that a redirect names. */
function redirected(
  path: string,
  from: RemoteAddress,
  { status, headers }: Response,
  rewrite: (url: URL) => URL = (url) => url,
): RemoteAddress {
  const location = headers.get("location")!;
  if (!URL.canParse(location, from.url)) {
    throw unsafe(path, "the server redirects to what is not a URL", status);
  }
  const url = rewrite(new URL(location, from.url));
  const { protocol } = new URL(from.url);
  if (url.protocol !== "https:" && (url.protocol !== "http:" || protocol !== "http:")) {
    throw unsafe(
      path,
      `the server redirects from ${protocol.slice(0, -1)} to ${quote(labelOf(url))}`,
      status,
    );
  }
  url.username = url.password = url.hash = "";
  return { url: url.href, headers: originOf(from.url) === url.origin ? from.headers : {} };
}

function isEncoded({ ok, headers }: Response): boolean {
  return ok && !/^\s*(?:identity)?\s*$/i.test(headers.get("content-encoding") ?? "");
}

function encodedBody(path: string, { status, headers }: Response): RemoteError {
  const encoding = quote(headers.get("content-encoding")!);
  return unsafe(
    path,
    `the server encoded the bytes (Content-Encoding ${encoding}), although none was asked for`,
    status,
  );
}

function unsafe(path: string, why: string, status: number): RemoteError {
  return new RemoteError(`Cannot read ${quote(path)}: ${why}`, { path, code: "InvalidAnswer", status });
}

function refusedConnection(path: string, { host }: URL, reason: string): RemoteError {
  const advice = /certificate|UnknownIssuer|CaUsedAsEndEntity/.test(reason)
    ? ": if you trust this server, name its certificate authority in DENO_CERT or SSL_CERT_FILE"
    : "";
  const message = `Cannot open ${quote(path)}: ${quote(host)}: ${reason}${advice}`;
  return new RemoteError(message, { path, code: "Unreachable" });
}

/** Statuses that another try can mend. */
const TEMPORARY = new Set([408, 425, 429, 500, 502, 503, 504]);

/** Describes a status: `503 Service Unavailable`. */
export function describeStatus(status: number): string {
  const text = STATUS_TEXTS[status];
  return text === undefined ? `status ${status}` : `${status} ${text}`;
}

const STATUS_TEXTS: Readonly<Record<number, string>> = {
  200: "OK",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  408: "Request Timeout",
  410: "Gone",
  412: "Precondition Failed",
  416: "Range Not Satisfiable",
  425: "Too Early",
  429: "Too Many Requests",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
};

/** Makes the error for a refusal: a temporary failure, or the error for the user. */
export function refusalError(path: string, action: "open" | "read", { status, headers }: Refusal): Error {
  const said = `the server answered ${describeStatus(status)}`;
  if (TEMPORARY.has(status)) return new TemporaryFailure(said, status, askedPause(headers));
  const error = (code: RemoteError["code"], text: string) =>
    new RemoteError(`Cannot ${action} ${quote(path)}: ${text}`, { path, code, status });
  if (status === 404 || status === 410) return error("NotFound", `${said}: there is no such file`);
  if (status === 401 || status === 403) {
    const advice = action === "read"
      ? "access was refused in the middle of the file"
      : "it needs a token, another one, " +
        "or a signature that has not expired: the option network has headers and token";
    return error("AccessDenied", `${said}: ${advice}`);
  }
  return error(status >= 500 ? "ServerFailure" : "InvalidAnswer", said);
}
