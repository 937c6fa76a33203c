/**
 * An HTTP server in this process that serves files by ranges, and makes faults at the requests that a test chooses. It
 * writes its answers byte by byte as the test says, which no framework allows. Holds are gates: no test waits for time.
 */

/** A request that has arrived. */
export interface Received {
  /** Its number, from 0. */
  readonly index: number;
  readonly method: string;
  /** Path and query. */
  readonly target: string;
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
  /** The range asked for; null without one. `last` is inclusive. */
  readonly range: { readonly first: number; readonly last: number } | null;
}

/** An answer. */
export interface Reply {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  /** Waits for this before the status line. */
  readonly hold?: Promise<unknown>;
  /** Closes the connection after so many bytes of the body, although its length promises more. */
  readonly cutAfter?: number;
  /** Waits for this after the bytes before the cut, with the connection open. */
  readonly stall?: Promise<unknown>;
  /** Closes the connection without an answer. */
  readonly drops?: boolean;
  /** Writes this in place of everything else, again and again until the client closes the connection. */
  readonly endless?: string;
}

/** The content of a server: path → bytes. */
export type ServedFiles = Record<string, Uint8Array>;

/** Chooses the answer to a request: null for the usual one. */
export type Fault = (request: Received, usual: Reply) => Reply | null;

/** A running server. */
export class FaultyServer implements AsyncDisposable {
  readonly files: ServedFiles;
  /** Every request so far. */
  readonly requests: Received[] = [];
  fault: Fault;
  readonly #listener: Deno.Listener;
  readonly #connections = new Set<Deno.Conn>();
  readonly #running: Promise<void>;
  readonly #ended = Promise.withResolvers<void>();

  constructor(files: ServedFiles, fault: Fault = () => null) {
    this.files = files;
    this.fault = fault;
    this.#listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
    this.#running = this.#accept();
  }

  /** The URL of a path. */
  url(path: string, host = "127.0.0.1"): string {
    return `http://${host}:${(this.#listener.addr as Deno.NetAddr).port}${path}`;
  }

  /** The host and port. */
  get host(): string {
    return new URL(this.url("/")).host;
  }

  /** Settles when the server is closed: a hold for ever. */
  get closed(): Promise<void> {
    return this.#ended.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.resolve();
    this.#listener.close();
    for (const connection of this.#connections) close(connection);
    await this.#running;
  }

  async #accept(): Promise<void> {
    const serving: Promise<void>[] = [];
    try {
      for await (const connection of this.#listener) {
        this.#connections.add(connection);
        serving.push(
          this.#serve(connection).catch(() => {}).finally(() => {
            this.#connections.delete(connection);
            close(connection);
          }),
        );
      }
    } catch {
      // closed
    }
    await Promise.all(serving);
  }

  async #serve(connection: Deno.Conn): Promise<void> {
    let rest = "";
    const decoder = new TextDecoder("latin1");
    const buffer = new Uint8Array(16 * 1024);
    for (;;) {
      let end: number;
      while ((end = rest.indexOf("\r\n\r\n")) < 0) {
        const count = await connection.read(buffer);
        if (count === null) return;
        rest += decoder.decode(buffer.subarray(0, count));
      }
      const received = parse(rest.slice(0, end), this.requests.length);
      rest = rest.slice(end + 4);
      this.requests.push(received);
      const usual = usualReply(this.files, received);
      if (!await reply(connection, this.fault(received, usual) ?? usual, this.closed)) return;
    }
  }
}

function close(connection: Deno.Conn): void {
  try {
    connection.close();
  } catch {
    // closed already
  }
}

function parse(head: string, index: number): Received {
  const [line, ...lines] = head.split("\r\n");
  const [method, target] = line!.split(" ") as [string, string];
  const headers = new Map(lines.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  }));
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(headers.get("range") ?? "") ?? [];
  const range = first === undefined ? null : { first: Number(first), last: Number(last) };
  return { index, method, target, headers, range };
}

/** The ETag of a file that never changes. */
export const ETAG = '"version-1"';

/** The answer of a good server. */
export function usualReply(files: ServedFiles, { target, range, headers }: Received): Reply {
  const body = files[decodeURIComponent(target.replace(/\?.*$/, ""))];
  if (!body) return { status: 404, body: new TextEncoder().encode("no such file") };
  const match = headers.get("if-match");
  if (match !== undefined && match !== ETAG) return { status: 412 };
  if (!range) return { headers: { etag: ETAG, "accept-ranges": "bytes" }, body };
  if (range.first >= body.length) {
    return { status: 416, headers: { "content-range": `bytes */${body.length}` } };
  }
  const last = Math.min(range.last, body.length - 1);
  return {
    status: 206,
    headers: { etag: ETAG, "content-range": `bytes ${range.first}-${last}/${body.length}` },
    body: body.subarray(range.first, last + 1),
  };
}

/** Writes an answer; returns whether the connection stays open. */
async function reply(connection: Deno.Conn, answer: Reply, closed: Promise<void>): Promise<boolean> {
  const { status = 200, headers = {}, body = new Uint8Array(), hold, cutAfter, stall, endless, drops } =
    answer;
  if (hold) await Promise.race([hold, closed]);
  if (drops) return false;
  if (endless !== undefined) {
    await write(connection, new TextEncoder().encode("HTTP/1.1 200 OK\r\n"));
    for (;;) await write(connection, new TextEncoder().encode(endless));
  }
  const length = headers["transfer-encoding"] === undefined ? { "content-length": String(body.length) } : {};
  const all = { ...length, ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`).join("");
  await write(connection, new TextEncoder().encode(`HTTP/1.1 ${status} X\r\n${lines}\r\n`));
  await write(connection, body.subarray(0, cutAfter));
  if (stall) await Promise.race([stall, closed]);
  return cutAfter === undefined;
}

async function write(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await connection.write(bytes.subarray(done));
}
