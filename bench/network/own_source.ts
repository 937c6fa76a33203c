/**
 * A contender: a source of one's own that reads each range by fetch, as programs did before this package read from
 * servers. `own_source.ts <ignored> URL…` prints a {@linkcode Sample}.
 */
import { fastsafeOpen, type Source, type SourceFile } from "../../mod.ts";
import { type Sample, touchMemory } from "../side_by_side/sample.ts";

const HEAD = 96 * 1024;

/** Bytes of a range of a URL. */
async function readRange(url: string, offset: number, length: number): Promise<Response> {
  const response = await fetch(url, { headers: { range: `bytes=${offset}-${offset + length - 1}` } });
  if (response.status !== 206) throw new Error(`Cannot read ${url}: status ${response.status}`);
  return response;
}

const source: Source = {
  name: "fetch",
  async open(url: string): Promise<SourceFile> {
    const response = await readRange(url, 0, HEAD);
    const size = Number(response.headers.get("content-range")!.split("/")[1]);
    return {
      path: url,
      size,
      head: new Uint8Array(await response.arrayBuffer()),
      async read(offset, target) {
        let done = 0;
        for await (const chunk of (await readRange(url, offset, target.byteLength)).body!) {
          target.set(chunk, done);
          done += chunk.byteLength;
        }
      },
      releaseHead() {},
      close() {},
    };
  },
};

touchMemory();
const start = performance.now();
await using model = await fastsafeOpen(Deno.args.slice(1), { source });
await model.whenLoaded();
const seconds = (performance.now() - start) / 1000;
const { path, threads } = model.stats();
const sample: Sample = { seconds, path, threads };
console.log(JSON.stringify(sample));
