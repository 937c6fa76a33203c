/**
 * A file on a server that is read by fetch: by ranges, or as one stream if the server ignores ranges.
 */
import { RemoteError, UseAfterCloseError } from "../../base/errors.ts";
import { quote } from "../../base/text.ts";
import { Attempts, RetryNotes, TemporaryFailure } from "./attempts.ts";
import { type Answer, type Asked, describeStatus, type HttpClient, refusalError } from "./client.ts";
import type { Refusal, RemoteName } from "./host.ts";
import type { RemoteAddress, RemoteFile, RemoteLimits } from "./remote_file.ts";

/** Bytes that the request that opens a file asks for: more than nearly every header. */
export const FIRST_BYTES = 256 * 1024;

/** Reads at once that are useful: each waits for the network most of the time. */
const READERS = 8;

/** What all files of a source share. */
export interface FileContext {
  readonly client: HttpClient;
  readonly limits: RemoteLimits;
  /** Ends the opening of files. */
  readonly signal: AbortSignal;
}

/** The properties that identify a version of a file. */
interface Version {
  readonly size: number;
  readonly etag: string | null;
  readonly lastModified: string | null;
}

/** An opened file. */
export class HttpFile implements RemoteFile {
  readonly path: string;
  readonly size: number;
  readonly etag: string | null;
  readonly sha256: string | null;
  readonly ranges: boolean;
  readonly limits: RemoteLimits;
  readonly readers: number;
  /** Its lasting name. */
  readonly origin: RemoteName;
  readonly #context: FileContext;
  readonly #version: Version;
  readonly #notes: RetryNotes;
  readonly #running = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  #closed: Promise<void> | undefined;
  #head: Uint8Array<ArrayBuffer>;
  #current: RemoteAddress;
  #isRedirected: boolean;
  #resolving: Promise<RemoteAddress> | undefined;
  /** The body of a server without ranges, from {@linkcode #streamed} on. */
  #stream: Answer["body"] | null;
  #streamed: number;
  /** The last read from the stream: they run one after another. */
  #lastStreamed: Promise<void> = Promise.resolve();

  private constructor(
    context: FileContext,
    name: RemoteName,
    notes: RetryNotes,
    { answer, version, ranges, head }: Opening,
  ) {
    this.#context = context;
    this.origin = name;
    this.#notes = notes;
    this.#version = version;
    this.#head = head;
    this.#current = answer.address;
    this.#isRedirected = answer.redirects.length > 0;
    this.#stream = ranges ? null : answer.body;
    this.#streamed = head.byteLength;
    this.path = name.path;
    this.size = version.size;
    this.etag = version.etag?.startsWith("W/") ? null : version.etag;
    this.sha256 = name.sha256 ?? linkedSha256(answer);
    this.ranges = ranges;
    this.readers = ranges ? READERS : 1;
    this.limits = context.limits;
  }

  /**
   * Opens a file by one request, which brings its size, its version and its first bytes.
   *
   * @param firstBytes how many; at least 1
   * @throws {RemoteError} if the server refuses, or the answer does not fit
   */
  static async open(context: FileContext, name: RemoteName, firstBytes = FIRST_BYTES): Promise<HttpFile> {
    const notes = new RetryNotes();
    const { path } = name;
    const action = `Cannot open ${quote(path)}`;
    const { client, limits, signal } = context;
    const attempts = new Attempts({ host: client.host, limits, notes, path, action, signal });
    client.host.retain(); // until the file is closed
    for (let corrected = 0;;) {
      try {
        const address = await name.locate();
        const headers = { range: `bytes=0-${firstBytes - 1}` };
        const { timeoutSeconds } = limits;
        const answer = await client.get(address, {
          ...redirectsOf(name),
          path,
          headers,
          signal,
          timeoutSeconds,
        });
        const opening = await readOpening(answer, name, firstBytes);
        if (opening) return new HttpFile(context, name, notes, opening);
        const refusal = await client.refusal(answer);
        const explained = name.explain?.(refusal) ?? null;
        if (explained === "again" && corrected++ < 2) continue;
        throw explained instanceof Error ? explained : refusalError(path, "open", refusal);
      } catch (error) {
        await attempts.afterFailure(error).catch((error) => {
          client.host.release();
          throw error;
        });
      }
    }
  }

  get head(): Uint8Array {
    return this.#head;
  }

  releaseHead(): void {
    // A small file has come whole by now: no other request is needed. A stream has passed its first bytes already.
    if (this.ranges && this.#head.byteLength < this.size) this.#head = new Uint8Array();
  }

  way(): "http" {
    return "http";
  }

  takeNotes(): readonly string[] {
    return this.#notes.take(this.path);
  }

  read(offset: number, target: Uint8Array<ArrayBuffer>, signal?: AbortSignal): Promise<void> {
    const action = `Cannot read ${quote(this.path)}`;
    if (this.#closed) return Promise.reject(new UseAfterCloseError(`${action}: it was closed`));
    const end = offset + target.byteLength;
    if (end <= this.#head.byteLength) {
      target.set(this.#head.subarray(offset, end));
      return Promise.resolve();
    }
    const ending = signal ? AbortSignal.any([signal, this.#closing.signal]) : this.#closing.signal;
    const reading = this.ranges
      ? this.#readRange(offset, target, ending)
      : this.#lastStreamed = this.#lastStreamed.catch(() => {}).then(() =>
        this.#readStream(offset, target, ending)
      );
    const settled = reading.then(() => {}, () => {});
    this.#running.add(settled);
    settled.then(() => this.#running.delete(settled));
    return reading;
  }

  address(stale?: RemoteAddress): Promise<RemoteAddress> {
    if (stale !== undefined && stale === this.#current) {
      this.#resolving ??= this.#resolve().then((address) => this.#current = address).finally(() => {
        this.#resolving = undefined;
      });
    }
    return this.#resolving ?? Promise.resolve(this.#current);
  }

  close(): Promise<void> {
    return this.#closed ??= this.#close();
  }

  async #close(): Promise<void> {
    await Promise.all(this.#running);
    this.#closing.abort(new UseAfterCloseError(`Cannot read ${quote(this.path)}: it was closed`));
    await this.#stream?.close();
    this.#head = new Uint8Array();
    this.#context.client.host.release();
  }

  async #readRange(offset: number, target: Uint8Array<ArrayBuffer>, signal: AbortSignal): Promise<void> {
    const attempts = this.#attempts("read", signal);
    const expected = target.byteLength;
    let done = 0;
    let renewed: RemoteAddress | null = null;
    while (done < expected) {
      try {
        const address = await this.address();
        const answer = await this.#get(address, offset + done, offset + expected - 1, signal);
        try {
          if (await this.#isStale(answer, address === renewed)) {
            renewed = await this.address(address);
            continue;
          }
          const length = rangeLength(answer, this.path, offset + done, expected - done, this.#version);
          const from = done;
          const part = target.subarray(from, from + length);
          await answer.body.fill(part, (bytes) => {
            done += bytes;
            attempts.advance(bytes);
          });
          if (done - from < length) {
            throw new TemporaryFailure(
              `${length} bytes expected at offset ${offset + from}, ${done - from} came`,
            );
          }
          renewed = null;
          if (!await answer.body.isAtEnd()) {
            throw this.#invalid("more bytes came than the range has", answer.status);
          }
        } finally {
          await answer.body.close();
        }
      } catch (error) {
        await attempts.afterFailure(error, { offset: offset + done, expected: expected - done });
      }
    }
  }

  /** Asks for a range, with the validators of this version. */
  #get(address: RemoteAddress, first: number, last: number, signal: AbortSignal): Promise<Answer> {
    const headers = { range: `bytes=${first}-${last}`, ...this.etag !== null && { "if-match": this.etag } };
    const { timeoutSeconds } = this.limits;
    return this.#context.client.get(address, {
      path: this.path,
      headers,
      signal,
      timeoutSeconds,
      follows: false,
    });
  }

  /**
   * Whether an address must be resolved anew: its signature has expired, or it redirects now.
   *
   * @param isNew whether it was resolved for this read; then the refusal is final
   * @throws for every other answer that is not one of success
   */
  async #isStale(answer: Answer, isNew: boolean): Promise<boolean> {
    const { status } = answer;
    if (status === 200 || status === 206) return false;
    const refusal = await this.#context.client.refusal(answer);
    const canRenew = status === 401 || status === 403 || (status === 400 && /Expired/.test(refusal.text)) ||
      (status >= 300 && status < 400);
    if (canRenew && !isNew) return true;
    throw this.#refused(refusal);
  }

  #refused(refusal: Refusal): Error {
    const { status } = refusal;
    if (status === 412 || status === 416 || status === 404 || status === 410) {
      return changedFile(this.path, status);
    }
    const explained = this.origin.explain?.(refusal);
    return explained instanceof Error ? explained : refusalError(this.path, "read", refusal);
  }

  #invalid(why: string, status: number): RemoteError {
    return new RemoteError(`Cannot read ${quote(this.path)}: ${why}`, {
      path: this.path,
      code: "InvalidAnswer",
      status,
    });
  }

  #attempts(action: "open" | "read", signal: AbortSignal): Attempts {
    const { client: { host }, limits } = this.#context;
    const { path } = this;
    return new Attempts({
      host,
      limits,
      notes: this.#notes,
      path,
      action: `Cannot ${action} ${quote(path)}`,
      signal,
    });
  }

  /** Finds the address again: a signature has expired. */
  async #resolve(): Promise<RemoteAddress> {
    const signal = this.#closing.signal;
    const attempts = this.#attempts("read", signal);
    for (;;) {
      try {
        const address = await this.origin.locate();
        const { client, limits: { timeoutSeconds } } = this.#context;
        if (this.origin.follows === false || !this.#isRedirected && address.url === this.#current.url) {
          client.host.checkAccess(new URL(address.url), this.path);
          return address;
        }
        const headers = { range: "bytes=0-0" };
        const redirects = redirectsOf(this.origin);
        const answer = await client.get(address, {
          ...redirects,
          path: this.path,
          headers,
          signal,
          timeoutSeconds,
        });
        if (answer.status !== 206 && answer.status !== 200) throw this.#refused(await client.refusal(answer));
        try {
          rangeLength(answer, this.path, 0, 1, this.#version);
        } finally {
          await answer.body.close();
        }
        this.#isRedirected = answer.redirects.length > 0;
        return answer.address;
      } catch (error) {
        await attempts.afterFailure(error);
      }
    }
  }

  /** Reads from the one stream of a server without ranges; goes back to its beginning by another request. */
  async #readStream(offset: number, target: Uint8Array<ArrayBuffer>, signal: AbortSignal): Promise<void> {
    const attempts = this.#attempts("read", signal);
    const expected = target.byteLength;
    const first = this.#head.subarray(offset, offset + expected);
    target.set(first);
    let done = first.byteLength;
    while (done < expected) {
      signal.throwIfAborted();
      const at = offset + done;
      try {
        if (!this.#stream || this.#streamed > at) await this.#restart();
        this.#streamed += await this.#stream!.skip(at - this.#streamed);
        if (this.#streamed === at) {
          await this.#stream!.fill(target.subarray(done), (bytes) => {
            done += bytes;
            this.#streamed += bytes;
            attempts.advance(bytes);
          });
        }
        if (done < expected) {
          throw new TemporaryFailure(`${this.size} bytes expected, ${this.#streamed} came`);
        }
      } catch (error) {
        await this.#stream?.close();
        this.#stream = null;
        await attempts.afterFailure(error, { offset: offset + done, expected: expected - done });
      }
    }
  }

  async #restart(): Promise<void> {
    await this.#stream?.close();
    this.#stream = null;
    const { client, limits: { timeoutSeconds } } = this.#context;
    const address = await this.origin.locate();
    const signal = this.#closing.signal;
    const redirects = redirectsOf(this.origin);
    const answer = await client.get(address, { ...redirects, path: this.path, signal, timeoutSeconds });
    if (answer.status !== 200) throw this.#refused(await client.refusal(answer));
    if (isOther(versionOf(answer, contentLength(answer) ?? NaN, this.origin), this.#version)) {
      await answer.body.close();
      throw changedFile(this.path, answer.status);
    }
    this.#stream = answer.body;
    this.#streamed = 0;
  }
}

/** How the redirects of a file are followed. */
function redirectsOf({ follows = true, rewrite }: RemoteName): Pick<Asked, "follows" | "rewrite"> {
  return { follows, ...rewrite && { rewrite } };
}

/** The answer that opens a file. */
interface Opening {
  readonly answer: Answer;
  readonly version: Version;
  readonly ranges: boolean;
  readonly head: Uint8Array<ArrayBuffer>;
}

/** Reads the first bytes of a file; null if the server refuses. Closes the body if ranges work. */
async function readOpening(
  answer: Answer,
  name: RemoteName,
  firstBytes: number,
): Promise<Opening | null> {
  const { status, headers, body } = answer;
  const { path } = name;
  const range = contentRange(headers);
  if (status === 416 && headers.get("content-range") === "bytes */0") {
    await body.close();
    return { answer, version: versionOf(answer, 0, name), ranges: true, head: new Uint8Array() };
  }
  if (status !== 200 && status !== 206) return null;
  try {
    const ranges = range !== null; // some servers answer 200 to a range, with the range alone in the body
    const size = range ? range.total : contentLength(answer);
    if (size === null || (status === 206 && !range)) {
      throw invalid(
        path,
        `the server does not say how large the file is (${describeStatus(status)})`,
        status,
      );
    }
    const version = versionOf(answer, size, name);
    if (name.size !== undefined && name.size !== size) {
      throw invalid(path, `${name.size} bytes expected by the list of files, ${size} found`, status);
    }
    const head = new Uint8Array(Math.min(firstBytes, size));
    if (range && (range.first !== 0 || range.last >= firstBytes)) throw wrongRange(path, headers, status);
    const wanted = range ? head.subarray(0, range.last + 1) : head;
    const length = await body.fill(wanted);
    if (length < wanted.byteLength) {
      throw new TemporaryFailure(`${wanted.byteLength} bytes expected at offset 0, ${length} came`);
    }
    if (ranges && !await body.isAtEnd()) throw invalid(path, "more bytes came than the range has", status);
    if (ranges) await body.close();
    return { answer, version, ranges, head: wanted };
  } catch (error) {
    await body.close();
    throw error;
  }
}

/** Checks the answer to a range request; returns the bytes that its body has, perhaps fewer than were asked for. */
function rangeLength(
  { status, headers }: Answer,
  path: string,
  offset: number,
  length: number,
  version: Version,
): number {
  const range = contentRange(headers);
  if (!range) {
    const said = status === 206
      ? `no valid Content-Range (${quote(headers.get("content-range") ?? "")})`
      : "the whole file";
    throw invalid(
      path,
      `the server answered ${describeStatus(status)} with ${said} to a request for a range`,
      status,
    );
  }
  const found = { size: range.total, etag: headers.get("etag"), lastModified: headers.get("last-modified") };
  if (isOther(found, version)) throw changedFile(path, status);
  if (range.first !== offset || range.last >= offset + length) {
    throw wrongRange(path, headers, status, offset, length);
  }
  return range.last - range.first + 1;
}

/** Parses `bytes first-last/total`; null if it is anything else, or the total is unknown. */
export function contentRange(headers: Headers): { first: number; last: number; total: number } | null {
  const [, ...numbers] =
    /^\s*bytes (\d{1,16})-(\d{1,16})\/(\d{1,16})\s*$/i.exec(headers.get("content-range") ?? "") ?? [];
  if (numbers.length < 3) return null;
  const [first, last, total] = numbers.map(Number) as [number, number, number];
  return first <= last && last < total && Number.isSafeInteger(total) ? { first, last, total } : null;
}

function contentLength({ headers }: Answer): number | null {
  const length = headers.get("content-length");
  return length !== null && /^\d{1,15}$/.test(length) ? Number(length) : null;
}

function versionOf({ headers }: Answer, size: number, { isFixed }: RemoteName): Version {
  if (isFixed) return { size, etag: null, lastModified: null }; // its servers can have different validators
  return { size, etag: headers.get("etag"), lastModified: headers.get("last-modified") };
}

/** Whether an answer is of another version of the file. */
function isOther(found: Version, { size, etag, lastModified }: Version): boolean {
  if (found.size !== size) return true;
  const opaque = (tag: string) => tag.replace(/^W\//, "");
  if (etag !== null) return found.etag !== null && opaque(found.etag) !== opaque(etag);
  return lastModified !== null && found.lastModified !== null && found.lastModified !== lastModified;
}

/** The SHA-256 that the Hub says on a redirect. */
function linkedSha256({ redirects }: Answer): string | null {
  for (const headers of redirects) {
    const [, sum] = /^"?([0-9a-f]{64})"?$/i.exec(headers.get("x-linked-etag") ?? "") ?? [];
    if (sum !== undefined) return sum.toLowerCase();
  }
  return null;
}

function invalid(path: string, why: string, status: number): RemoteError {
  return new RemoteError(`Cannot read ${quote(path)}: ${why}`, { path, code: "InvalidAnswer", status });
}

function wrongRange(
  path: string,
  headers: Headers,
  status: number,
  offset = 0,
  length = FIRST_BYTES,
): RemoteError {
  const asked = `bytes ${offset} to ${offset + length - 1} were asked for`;
  return invalid(
    path,
    `${asked}, the server answered with ${quote(headers.get("content-range") ?? "")}`,
    status,
  );
}

/** Makes the error for a file that is not the opened one any more. */
export function changedFile(path: string, status: number): RemoteError {
  const message = `Cannot read ${quote(path)}: the file was changed after its header was read: open it again`;
  return new RemoteError(message, { path, code: "Changed", status });
}
