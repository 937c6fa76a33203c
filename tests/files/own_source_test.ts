import { assertEquals, assertRejects } from "@std/assert";
import {
  fastsafeOpen,
  ReadError,
  SafeTensorsError,
  serialize,
  type Source,
  type SourceFile,
} from "@x/fastsafetensors";
import { SafeTensorsFileLoader } from "@x/fastsafetensors/compat";
import { runChild } from "../support/child.ts";
import { toHost, webgpuSuite } from "../webgpu/support.ts";

/** Files in memory: they record reads, and fail on request. */
class MemorySource implements Source {
  readonly name = "memory";
  readonly files: Map<string, Uint8Array>;
  readonly reads: string[] = [];
  changed = false;
  opened = 0;

  constructor(files: Record<string, Uint8Array>) {
    this.files = new Map(Object.entries(files));
  }

  open(path: string): Promise<SourceFile> {
    const bytes = this.files.get(path);
    if (!bytes) throw new ReadError(`Cannot open "${path}": it is not there`, { path, errno: 2 });
    this.opened++;
    let head = bytes.slice(0, 96);
    const { reads } = this;
    const changed = () => this.changed;
    return Promise.resolve({
      path,
      size: bytes.byteLength,
      get head() {
        return head;
      },
      releaseHead() {
        head = new Uint8Array();
      },
      read(offset: number, target: Uint8Array<ArrayBuffer>) {
        reads.push(`${path} ${offset}+${target.byteLength}`);
        target.set(bytes.subarray(offset, offset + target.byteLength));
        return Promise.resolve();
      },
      verify() {
        if (!changed()) return Promise.resolve();
        return Promise.reject(new ReadError(`Cannot read "${path}": it was changed`, { path }));
      },
      close: () => void this.opened--,
    });
  }
}

const x = { dtype: "F16", shape: [4], data: new Float16Array([1, 2, 3, 4]) } as const;
const y = { dtype: "I32", shape: [2, 2], data: new Int32Array([5, 6, 7, 8]) } as const;

function shards(): MemorySource {
  const index = { metadata: {}, weight_map: { x: "a", y: "b" } };
  return new MemorySource({
    "m://model/a": serialize({ x }),
    "m://model/b": serialize({ y }),
    "m://model/index.json": new TextEncoder().encode(JSON.stringify(index)),
  });
}

Deno.test("fastsafeOpen() loads from a custom source with a cast", async () => {
  const source = shards();
  {
    await using model = await fastsafeOpen(["m://model/b", "m://model/a"], { source, dtype: "F32" });
    assertEquals(model.keys(), ["y", "x"]);
    assertEquals((await model.getTensor("x")).data, new Float32Array([1, 2, 3, 4]));
    assertEquals((await model.getTensor("y")).data, new Int32Array([5, 6, 7, 8]));
    await model.whenLoaded();
    const { path, bytes, notes } = model.stats();
    assertEquals([path, bytes], ["portable", 24]);
    assertEquals(notes, [
      'Portable engine, slower than the native one: the files come from the source "memory"',
    ]);
  }
  assertEquals(source.opened, 0);
});

Deno.test("fastsafeOpen() reads an index through a custom source", async () => {
  const source = shards();
  await using model = await fastsafeOpen("m://model/index.json", { source });
  assertEquals([model.keys(), model.info("y").path], [["x", "y"], "m://model/b"]);
  assertEquals((await model.getTensor("y")).data, new Int32Array([5, 6, 7, 8]));
});

Deno.test("fastsafeOpen() names the shard that a custom source does not have", async () => {
  const source = shards();
  source.files.delete("m://model/b");
  const error = await assertRejects(
    () => fastsafeOpen("m://model/index.json", { source }),
    SafeTensorsError,
    'Cannot open "m://model/b": the index "m://model/index.json" names this shard, and it does not exist',
  );
  assertEquals([error.code, source.opened], ["MissingShard", 0]);
});

Deno.test("a lazy model reads only the bytes of a slice from a custom source", async () => {
  const source = shards();
  await using model = await fastsafeOpen("m://model/b", { source, lazy: true });
  source.reads.length = 0;
  assertEquals((await model.getSlice("y", 1)).data, new Int32Array([7, 8]));
  const { byteLength } = source.files.get("m://model/b")!;
  assertEquals(source.reads, [`m://model/b ${byteLength - 8}+8`]);
});

Deno.test("getTensor() rejects a file that the source reports as changed", async () => {
  const source = shards();
  await using model = await fastsafeOpen("m://model/a", { source, lazy: true });
  source.changed = true;
  await assertRejects(() => model.getTensor("x"), ReadError, 'Cannot read "m://model/a": it was changed');
});

Deno.test("getTensor() to the CPU works without the native library for a custom source", async () => {
  const env = { FASTSAFETENSORS_LIB: "/nonexistent/library.so" };
  const result = await runChild("own_source.ts", { flags: ["-A", "--no-check"], args: [], env });
  assertEquals(result, { code: 0, stdout: "7\n7\n", stderr: "" });
});

Deno.test("SafeTensorsFileLoader loads from a custom source", async () => {
  const source = shards();
  await using loader = new SafeTensorsFileLoader(null, { source });
  await loader.addFilenames({ 0: ["m://model/a"] });
  await using buffer = await loader.copyFilesToDevice();
  assertEquals((await buffer.getTensor("x")).data, new Float16Array([1, 2, 3, 4]));
});

Deno.test("fastsafeOpen() rejects a custom source for CUDA, and invalid sources", async () => {
  await assertRejects(
    () => fastsafeOpen("m://model/a", { source: shards(), device: "cuda:0" }),
    TypeError,
    'Cannot load to "cuda:0" from a source of your own, which is read on the CPU: load to "cpu" or "webgpu"',
  );
  await assertRejects(
    () => fastsafeOpen("m://model/a", { source: {} as Source }),
    TypeError,
    'source must be "3fs", "file" or a source of your own, got an object',
  );
});

webgpuSuite("a source of the user's", (test) => {
  test("fastsafeOpen() loads from a custom source to a GPU with a cast", async () => {
    await using model = await fastsafeOpen("m://model/index.json", {
      source: shards(),
      device: "webgpu",
      dtype: "F32",
    });
    assertEquals((await toHost(await model.getTensor("x"))).data, new Float32Array([1, 2, 3, 4]));
    assertEquals((await toHost(await model.getTensor("y"))).data, new Int32Array([5, 6, 7, 8]));
  });
});

Deno.test("fastsafeOpen() opens an index with a query from a custom source, and its files with the same query", async () => {
  const index = new TextEncoder().encode(
    '{"weight_map": {"x": "m1.safetensors", "y": "./sub/m2.safetensors"}}',
  );
  const source = new MemorySource({
    "https://h/model.safetensors.index.json?sig=1&x=a/b": index,
    "https://h/m1.safetensors?sig=1&x=a/b": serialize({ x }),
    "https://h/sub/m2.safetensors?sig=1&x=a/b": serialize({ y }),
    "https://h/other.safetensors": serialize({ z: x }),
    "s3://bucket/model.safetensors.index.json": index,
    "s3://bucket/m1.safetensors": serialize({ x }),
    "s3://bucket/sub/m2.safetensors": serialize({ y }),
  });
  const names = ["https://h/model.safetensors.index.json?sig=1&x=a/b", "https://h/other.safetensors"];
  await using model = await fastsafeOpen(names, { source });
  assertEquals(model.keys(), ["x", "y", "z"]);
  assertEquals((await model.getTensor("y")).data, y.data);
  await using signed = await fastsafeOpen(names[0]!, { source });
  assertEquals(signed.info("x").path, "https://h/m1.safetensors?sig=1&x=a/b");
  await using bucket = await fastsafeOpen("s3://bucket/model.safetensors.index.json", { source });
  assertEquals(bucket.info("y").path, "s3://bucket/sub/m2.safetensors");
  const missing = new MemorySource({ "https://h/model.safetensors.index.json": index });
  const error = await assertRejects(
    () => fastsafeOpen("https://h/model.safetensors.index.json", { source: missing }),
    SafeTensorsError,
    "names this shard, and it does not exist",
  );
  assertEquals([error.code, error.path], ["MissingShard", "https://h/m1.safetensors"]);
});
