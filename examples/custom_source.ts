/**
 * Read a model through your own source: here a store that signs the URL of each file for a short time.
 *
 *     deno run -A examples/custom_source.ts
 *
 * The source says where a file is; the package reads it by ranges, several at once, with checks and repetitions, and asks
 * for the address again when the signature has expired. A source can also read files itself: docs/extending.md.
 */
import { fastsafeOpen, serialize, type UrlSource } from "@x/fastsafetensors";

/** Asks the store for signed URLs. */
class StoreSource implements UrlSource {
  readonly name = "store";
  readonly #api: string;

  constructor(api: string) {
    this.#api = api;
  }

  async locate(path: string): Promise<{ url: string }> {
    const response = await fetch(`${this.#api}/sign?name=${encodeURIComponent(path)}`);
    return { url: await response.text() };
  }
}

await using store = startStore();
await using model = await fastsafeOpen("model.safetensors.index.json", {
  source: new StoreSource(store.url),
  lazy: true,
  dtype: "F32",
});
for (const name of model.keys()) {
  const { dtype, shape, byteLength } = model.info(name);
  const part = await model.getSlice(name, [0, 2]);
  const first = [...part.data.subarray(0, 3)].join(", ");
  console.log(`${name}: ${dtype} [${shape}], ${byteLength} bytes; the beginning: ${first}, …`);
}

/** A store on this machine with a model of two tensors in two shards. */
function startStore() {
  const rows = Float32Array.from({ length: 2000 * 64 }, (_, index) => index);
  const weight_map = { embed: "embed.safetensors", head: "head.safetensors" };
  const files: Record<string, Uint8Array<ArrayBuffer>> = {
    "embed.safetensors": serialize({ embed: { dtype: "F32", shape: [2000, 64], data: rows } }),
    "head.safetensors": serialize({ head: { dtype: "F32", shape: [3], data: new Float32Array([7, 8, 9]) } }),
    "model.safetensors.index.json": new TextEncoder().encode(JSON.stringify({ metadata: {}, weight_map })),
  };
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request) => {
    const { origin, pathname, searchParams } = new URL(request.url);
    if (pathname === "/sign") return new Response(`${origin}/${searchParams.get("name")}?signature=secret`);
    const file = files[pathname.slice(1)];
    if (!file || searchParams.get("signature") !== "secret") return new Response(null, { status: 403 });
    const [, start, end] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.get("range") ?? "")!;
    const body = file.slice(Number(start), Number(end) + 1);
    const range = `bytes ${start}-${Number(start) + body.byteLength - 1}/${file.byteLength}`;
    return new Response(body, { status: 206, headers: { "content-range": range, etag: '"1"' } });
  });
  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}
