/**
 * Read a model through your own source: here over HTTP by range requests.
 *
 *     deno run -A examples/custom_source.ts [url tensor]
 *
 * Without arguments a server in this process serves a model in two shards. `url` is a `.safetensors` file, or the index
 * of a sharded model; only the headers and the requested bytes are fetched. The server must answer range requests, which
 * `python3 -m http.server` does not. If `HF_TOKEN` is set, it is sent, as models with restricted access need it.
 * `HttpSource` can be imported from this file.
 */
import { fastsafeOpen, ReadError, serialize, type Source, type SourceFile } from "@x/fastsafetensors";

/** Bytes to fetch when a file is opened: more than most headers have. */
const HEAD_BYTES = 64 * 1024;

/** A file with a URL. */
class HttpFile implements SourceFile {
  readonly path: string;
  readonly size: number;
  readonly #headers: Record<string, string>;
  #head: Uint8Array;

  constructor(url: string, size: number, headers: Record<string, string>, head: Uint8Array) {
    this.path = url;
    this.size = size;
    this.#headers = headers;
    this.#head = head;
  }

  get head(): Uint8Array {
    return this.#head;
  }

  releaseHead(): void {
    this.#head = new Uint8Array();
  }

  async read(offset: number, target: Uint8Array<ArrayBuffer>): Promise<void> {
    const expected = target.byteLength;
    if (expected === 0) return;
    if (offset + expected <= this.#head.byteLength) {
      return target.set(this.#head.subarray(offset, offset + expected));
    }
    const { body, status } = await fetchRange(this.path, offset, offset + expected, this.#headers);
    let actual = 0;
    for await (const chunk of body) {
      if (actual + chunk.byteLength > expected) break;
      target.set(chunk, actual);
      actual += chunk.byteLength;
    }
    if (actual === expected) return;
    const message =
      `Cannot read "${this.path}": ${expected} bytes expected at offset ${offset}, ${actual} found`;
    throw new ReadError(`${message} (HTTP status ${status})`, { path: this.path, offset, expected, actual });
  }

  close(): void {}
}

/** Files on servers that answer range requests, such as the Hugging Face Hub and every object store. */
export class HttpSource implements Source {
  readonly name = "http";
  readonly #headers: Record<string, string>;

  /** Sends these headers with every request, such as `authorization`. */
  constructor(headers: Record<string, string> = {}) {
    this.#headers = headers;
  }

  async open(url: string): Promise<SourceFile> {
    const { body, headers } = await fetchRange(url, 0, HEAD_BYTES, this.#headers);
    const size = Number(/\/(\d+)$/.exec(headers.get("content-range") ?? "")?.[1] ?? NaN);
    if (!Number.isSafeInteger(size)) {
      throw new ReadError(`Cannot open "${url}": the server does not say how large it is`, { path: url });
    }
    const tag = headers.get("etag");
    // If-Match: bytes of another version of the file cause an error.
    const match = tag && !tag.startsWith("W/") ? { "if-match": tag } : {};
    return new HttpFile(url, size, { ...this.#headers, ...match }, await new Response(body).bytes());
  }
}

/** The response to a range request, `end` excluded. */
async function fetchRange(url: string, start: number, end: number, headers: Record<string, string>) {
  const response = await fetch(url, { headers: { ...headers, range: `bytes=${start}-${end - 1}` } });
  if (response.status === 206 && response.body) {
    return { body: response.body, status: response.status, headers: response.headers };
  }
  await response.body?.cancel();
  const reasons: Record<number, string> = {
    200: "the server does not answer range requests",
    401: "it needs a token: set HF_TOKEN",
    404: "there is no such file",
    412: "the file was changed after its header was read",
  };
  const reason = reasons[response.status] ?? "the server refused";
  const details = { path: url, offset: start, expected: end - start, errno: response.status === 404 ? 2 : 0 };
  throw new ReadError(`Cannot read "${url}": ${reason} (HTTP status ${response.status})`, details);
}

if (import.meta.main) {
  const [url, wanted] = Deno.args;
  const token = Deno.env.get("HF_TOKEN");
  await using server = url === undefined ? serveModel() : null;
  const source = new HttpSource(url && token ? { authorization: `Bearer ${token}` } : {});
  try {
    await using model = await fastsafeOpen(url ?? server!.index, { source, lazy: true, dtype: "F32" });
    for (const name of wanted === undefined ? model.keys() : [wanted]) {
      const { dtype, shape, byteLength } = model.info(name);
      const part = await model.getSlice(name, [0, 2]);
      const first = [...part.data.subarray(0, 3)].join(", ");
      console.log(
        `${name}: ${dtype} [${shape}], ${byteLength} bytes; the beginning as ${part.dtype}: ${first}, …`,
      );
    }
  } catch (error) {
    if (!(error instanceof ReadError)) throw error;
    console.error(error.message);
    Deno.exitCode = 1;
  }
  if (server) console.log(`${server.requests()} requests`);
}

/** A server on this machine with a model of two tensors in two shards. */
function serveModel() {
  const rows = Float32Array.from({ length: 1000 * 64 }, (_, index) => index);
  const files: Record<string, Uint8Array<ArrayBuffer>> = {
    "/embed.safetensors": serialize({ embed: { dtype: "F32", shape: [1000, 64], data: rows } }),
    "/head.safetensors": serialize({ head: { dtype: "F32", shape: [3], data: new Float32Array([7, 8, 9]) } }),
    "/model.safetensors.index.json": new TextEncoder().encode(JSON.stringify({
      metadata: {},
      weight_map: { embed: "embed.safetensors", head: "head.safetensors" },
    })),
  };
  let requests = 0;
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request) => {
    requests++;
    const file = files[new URL(request.url).pathname];
    if (!file) return new Response(null, { status: 404 });
    const [, start, end] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.get("range") ?? "")!;
    const body = file.slice(Number(start), Number(end) + 1);
    const range = `bytes ${start}-${Number(start) + body.byteLength - 1}/${file.byteLength}`;
    return new Response(body, { status: 206, headers: { "content-range": range, etag: '"1"' } });
  });
  return {
    index: `http://127.0.0.1:${server.addr.port}/model.safetensors.index.json`,
    requests: () => requests,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}
