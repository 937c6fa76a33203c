/**
 * URLs wherever a path is taken: the functions of the package, against servers in this process.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  autoOpen,
  fastsafeOpen,
  type HostTensor,
  loadFile,
  type OpenOptions,
  readHeader,
  RemoteError,
  SafeTensorsError,
  type SafeTensorsModel,
  saveFile,
} from "@x/fastsafetensors";
import { ParallelLoader, SafeTensorsFileLoader } from "@x/fastsafetensors/compat";
import { convertPyTorch, openPyTorch } from "@x/fastsafetensors/pytorch";
import "../../support/open_library.ts";
import { type Fault, FaultyServer } from "../../support/faulty_server.ts";
import { assertBytes, fileOf, tempFolder, type Written } from "../../support/models.ts";
import { onRanks } from "../../support/fake_group.ts";
import { S3Server } from "../../support/s3_server.ts";

const ONE = fileOf([{ name: "a", dtype: "F32", shape: [500, 1000] }, {
  name: "b",
  dtype: "I64",
  shape: [3],
}]);
const TWO = fileOf([{ name: "c", dtype: "BF16", shape: [700, 999] }]);
const INDEX = new TextEncoder().encode(JSON.stringify({
  metadata: {},
  weight_map: { a: "one.safetensors", b: "one.safetensors", c: "two.safetensors" },
}));
const FILES = {
  "/m/one.safetensors": ONE.bytes,
  "/m/two.safetensors": TWO.bytes,
  "/m/model.safetensors.index.json": INDEX,
};
const CHECKPOINT = new URL("../../data/checkpoints/module.pt", import.meta.url);

/** Short pauses between the tries of a test. */
const NETWORK: OpenOptions["network"] = { retries: 2 };

async function assertTensors(
  model: SafeTensorsModel<HostTensor>,
  written: readonly Written[],
): Promise<void> {
  for (const { name, bytes } of written) assertBytes((await model.getTensor(name)).bytes, bytes, name);
}

Deno.test("a file on a server is opened by one request and read by ranges", async () => {
  await using server = new FaultyServer({ ...FILES });
  await using model = await fastsafeOpen(server.url("/m/one.safetensors"), { blockBytes: 4 * 2 ** 20 });
  await assertTensors(model, ONE.tensors);
  await model.whenLoaded();
  const { path, bytes } = model.stats();
  assertEquals([path, bytes], ["http", 2_000_024]);
  assertEquals(model.files(), [server.url("/m/one.safetensors")]);
  assert(server.requests.length <= 4, `${server.requests.length} requests`);
  assertEquals(server.requests.every(({ range }) => range !== null), true);
});

Deno.test("a small file is loaded by the request that opens it", async () => {
  const { bytes, tensors } = fileOf([{ name: "x", dtype: "F32", shape: [100] }]);
  await using server = new FaultyServer({ "/x": bytes });
  await using model = await fastsafeOpen(server.url("/x"), { lazy: true });
  await assertTensors(model, tensors);
  assertEquals(server.requests.length, 1);
});

Deno.test("an index is opened with the shards beside it; its query is theirs too, and is not shown", async () => {
  await using server = new FaultyServer({ ...FILES });
  const url = new URL(server.url("/m/model.safetensors.index.json?token=secret"));
  await using model = await fastsafeOpen(url);
  await assertTensors(model, [...ONE.tensors, ...TWO.tensors]);
  assertEquals(server.requests.filter(({ target }) => !target.endsWith("?token=secret")), []);
  assertEquals(JSON.stringify([model.files(), model.stats(), model.info("a")]).includes("secret"), false);
});

Deno.test("two URLs that differ only in what is not shown are two files", async () => {
  await using server = new FaultyServer({});
  server.fault = ({ target, range }) => {
    const body = target.endsWith("=one") ? ONE.bytes : TWO.bytes;
    const { first, last } = range!;
    const headers = { "content-range": `bytes ${first}-${Math.min(last, body.length - 1)}/${body.length}` };
    return { status: 206, body: body.subarray(first, last + 1), headers };
  };
  await using model = await fastsafeOpen([server.url("/d?key=one"), server.url("/d?key=two")]);
  await assertTensors(model, [...ONE.tensors, ...TWO.tensors]);
  assertEquals(model.files(), [server.url("/d?key=…"), server.url("/d?key=…#2")]);
  await assertRejects(
    () => fastsafeOpen([server.url("/d?key=one"), server.url("/d?key=one")]),
    TypeError,
    "is named twice",
  );
});

Deno.test("local files and files on servers are one model", async () => {
  await using folder = await tempFolder();
  await Deno.writeFile(`${folder.path}/two.safetensors`, TWO.bytes);
  await using server = new FaultyServer({ ...FILES });
  await using model = await fastsafeOpen([
    server.url("/m/one.safetensors"),
    `${folder.path}/two.safetensors`,
  ]);
  await assertTensors(model, [...ONE.tensors, ...TWO.tensors]);
});

Deno.test("every function that opens files takes a URL", async () => {
  await using server = new FaultyServer({ ...FILES });
  const url = server.url("/m/one.safetensors");
  const all = await loadFile(url);
  assertBytes(all["a"]!.bytes, ONE.tensors[0]!.bytes, "loadFile()");
  await using auto = await autoOpen(url, { lazy: true });
  assertEquals(auto.keys(), ["a", "b"]);
  assertEquals([...(await readHeader(url)).tensors.keys()], ["a", "b"]);
  assertEquals([...(await readHeader(new URL(url))).tensors.keys()], ["a", "b"]);
  await using loader = new SafeTensorsFileLoader();
  await loader.addFilenames({ 0: [url] });
  await using buffer = await loader.copyFilesToDevice();
  assertBytes((await buffer.getTensor("b")).bytes, ONE.tensors[1]!.bytes, "copyFilesToDevice()");
  const batches: string[] = [];
  for await (const [name] of new ParallelLoader(null, [url], { network: NETWORK! })) batches.push(name);
  assertEquals(batches.toSorted(), ["a", "b"]);
  await using byRank = await fastsafeOpen({ 0: server.url("/m/two.safetensors") }, { dtype: "F32" });
  assertEquals((await byRank.getTensor("c")).dtype, "F32");
});

Deno.test("the ranks of a group read one file each, or their parts of every file", async () => {
  await using server = new FaultyServer({ ...FILES });
  const url = server.url("/m/model.safetensors.index.json?key=secret");
  const whole = await onRanks(2, async (group) => {
    await using model = await fastsafeOpen(url, { group });
    return await Promise.all(["a", "c"].map(async (name) => (await model.getTensor(name)).bytes));
  });
  for (const [a, c] of whole) {
    assertBytes(a!, ONE.tensors[0]!.bytes, "a");
    assertBytes(c!, TWO.tensors[0]!.bytes, "c");
  }
  const parts = await onRanks(2, async (group) => {
    await using model = await fastsafeOpen(url, { group, shardPlan: { a: 0 } });
    return (await model.getTensor("a")).bytes;
  });
  const half = 250 * 4000;
  assertBytes(parts[0]!, ONE.tensors[0]!.bytes.subarray(0, half), "the first half");
  assertBytes(parts[1]!, ONE.tensors[0]!.bytes.subarray(half), "the second half");
});

Deno.test("slices of a lazy model are ranges of the file", async () => {
  await using server = new FaultyServer({ ...FILES });
  await using model = await fastsafeOpen(server.url("/m/one.safetensors"), { lazy: true });
  const rows = await model.getSlice("a", [400, 402]);
  assertBytes(rows.bytes, ONE.tensors[0]!.bytes.subarray(400 * 4000, 402 * 4000), "rows");
  const asked = server.requests.slice(1).reduce((sum, { range }) => sum + range!.last - range!.first + 1, 0);
  assert(asked <= 16_384, `${asked} bytes were asked for`);
});

Deno.test("a checkpoint of PyTorch on a server is opened and converted", async () => {
  const bytes = await Deno.readFile(CHECKPOINT);
  await using server = new FaultyServer({ "/c.pt": bytes });
  await using local = await openPyTorch(CHECKPOINT);
  await using model = await openPyTorch(server.url("/c.pt?signature=x"));
  assertEquals(model.keys(), local.keys());
  for (const name of local.keys()) {
    assertBytes((await model.getTensor(name)).bytes, (await local.getTensor(name)).bytes, name);
  }
  await using folder = await tempFolder();
  const report = await convertPyTorch(server.url("/c.pt"), `${folder.path}/c.safetensors`, {
    validate: true,
  });
  assertEquals([report.validated, report.tensors > 0], [true, true]);
  const error = await assertRejects(() => fastsafeOpen(server.url("/c.pt")), SafeTensorsError);
  assertEquals(error.format, "pytorch");
});

Deno.test("repeated requests are counted in the notes", async () => {
  const fault: Fault = ({ index }) => index === 1 ? { status: 503 } : null;
  await using server = new FaultyServer({ ...FILES }, fault);
  await using model = await fastsafeOpen(server.url("/m/one.safetensors"), { network: NETWORK });
  await model.whenLoaded();
  await assertTensors(model, ONE.tensors);
  const notes = model.stats().notes.filter((note) => note.startsWith("Repeated"));
  assertEquals(notes.length, 1, JSON.stringify(model.stats().notes));
  assert(notes[0]!.includes("503"), notes[0]);
});

Deno.test("a server that ignores ranges is read as one stream, with a note", async () => {
  const fault: Fault = ({ target }) => ({ body: FILES[target as keyof typeof FILES] });
  await using server = new FaultyServer({ ...FILES }, fault);
  await using model = await fastsafeOpen(server.url("/m/one.safetensors"));
  await model.whenLoaded();
  await assertTensors(model, ONE.tensors);
  assertEquals(server.requests.length, 1);
  assert(model.stats().notes.some((note) => note.includes("ignores ranges")), model.stats().notes.join());
});

Deno.test("a file that changes in the middle of a load is an error, whatever was read before", async () => {
  let changed = false;
  const fault: Fault = (_, usual) =>
    changed ? { ...usual, headers: { ...usual.headers, etag: '"2"' } } : null;
  await using server = new FaultyServer({ ...FILES }, fault);
  await using model = await fastsafeOpen(server.url("/m/one.safetensors"), { lazy: true, network: NETWORK });
  changed = true;
  const error = await assertRejects(() => model.getTensor("a"), RemoteError);
  assertEquals(error.code, "Changed");
  assert(error.message.includes("was changed after its header was read"), error.message);
});

Deno.test("a shard of an index that is not there is a missing shard", async () => {
  const { "/m/two.safetensors": _two, ...files } = FILES;
  await using server = new FaultyServer(files);
  const error = await assertRejects(
    () => fastsafeOpen(server.url("/m/model.safetensors.index.json")),
    SafeTensorsError,
  );
  assertEquals(error.code, "MissingShard");
});

Deno.test("a page in place of a file is refused, as for local files", async () => {
  const page = new TextEncoder().encode("<!DOCTYPE html><html>please log in</html>");
  await using server = new FaultyServer({ "/x.safetensors": page });
  await assertRejects(() => fastsafeOpen(server.url("/x.safetensors")), SafeTensorsError);
});

Deno.test("an abort ends a load whose server is silent", async () => {
  const arrived = Promise.withResolvers<void>();
  await using server: FaultyServer = new FaultyServer({ ...FILES }, ({ index }) => {
    if (index === 0) return null;
    arrived.resolve();
    return { hold: server.closed };
  });
  const stop = new AbortController();
  await using model = await fastsafeOpen(server.url("/m/one.safetensors"), { signal: stop.signal });
  await arrived.promise;
  const reason = new Error("enough");
  stop.abort(reason);
  assertEquals(await assertRejects(() => model.whenLoaded()), reason);
});

Deno.test("an abort ends the opening of a file whose server is silent", async () => {
  const arrived = Promise.withResolvers<void>();
  await using server: FaultyServer = new FaultyServer({ ...FILES }, () => {
    arrived.resolve();
    return { hold: server.closed };
  });
  const stop = new AbortController();
  const opening = fastsafeOpen(server.url("/m/one.safetensors"), { signal: stop.signal });
  await arrived.promise;
  const reason = new Error("enough");
  stop.abort(reason);
  assertEquals(await assertRejects(() => opening), reason);
});

Deno.test("headers of the user are sent to the host that is named", async () => {
  await using server = new FaultyServer({ ...FILES }, ({ headers }) => {
    return headers.get("authorization") === "Bearer secret" ? null : { status: 401 };
  });
  const url = server.url("/m/one.safetensors");
  await using model = await fastsafeOpen(url, { network: { headers: { authorization: "Bearer secret" } } });
  await assertTensors(model, ONE.tensors);
  const error = await assertRejects(
    () => fastsafeOpen(url, { network: { retries: 0 } }),
    RemoteError,
    "it needs a token",
  );
  assertEquals([error.code, error.status], ["AccessDenied", 401]);
  const withUser = url.replace("http://", "http://user:p%40ss@");
  server.fault = ({ headers }) =>
    headers.get("authorization") === `Basic ${btoa("user:p@ss")}` ? null : { status: 401 };
  await using other = await fastsafeOpen(withUser);
  assertEquals(JSON.stringify([other.files(), other.stats()]).includes("p%40ss"), false);
  await assertTensors(other, ONE.tensors);
});

Deno.test("a source of the user says where files are, again after a signature has expired", async () => {
  let generation = 1;
  await using server = new FaultyServer({ ...FILES }, ({ target, headers }) => {
    return target.endsWith(`?s=${generation}`) && headers.get("x-key") === "k" ? null : { status: 403 };
  });
  const asked: string[] = [];
  const source = {
    name: "store",
    locate(path: string) {
      asked.push(path);
      return {
        url: server.url(`/m/${path.replace("models/", "")}?s=${generation}`),
        headers: { "x-key": "k" },
      };
    },
  };
  await using model = await fastsafeOpen("models/model.safetensors.index.json", { source, lazy: true });
  assertEquals(model.files(), ["models/one.safetensors", "models/two.safetensors"]);
  generation = 2;
  await assertTensors(model, [...ONE.tensors, ...TWO.tensors]);
  assertEquals(asked.toSorted(), [
    "models/model.safetensors.index.json",
    "models/one.safetensors",
    "models/one.safetensors",
    "models/two.safetensors",
    "models/two.safetensors",
  ]);
  assertEquals(model.stats().path, "http");
});

Deno.test("an address of a source that is not one is an error", async () => {
  for (
    const [address, message] of [
      [null, 'The source "store" cannot locate "x": locate() must return an object with a URL, got null'],
      [{ url: "ftp://host/x" }, "its URL must be an https: or http: URL"],
      [{ url: "/x" }, "its URL must be an https: or http: URL"],
      [
        { url: "https://host", headers: { a: 1 } },
        'The headers of "x" from the source "store" must be an object of strings',
      ],
    ] as const
  ) {
    const source = { name: "store", locate: () => address as { url: string } };
    await assertRejects(() => fastsafeOpen("x", { source }), TypeError, message);
  }
});

Deno.test("a model in a service of the S3 interface is loaded by its prefix", async () => {
  const objects = Object.fromEntries(Object.entries(FILES).map(([path, bytes]) => [path.slice(1), bytes]));
  await using server = new S3Server({ models: { region: "auto", objects } }, {
    ID: { secretAccessKey: "key" },
  });
  const s3 = {
    endpoint: server.endpoint,
    region: "auto",
    credentials: () => ({ accessKeyId: "ID", secretAccessKey: "key" }),
  };
  await using model = await fastsafeOpen("s3://models/m/", { network: { s3 } });
  await assertTensors(model, [...ONE.tensors, ...TWO.tensors]);
  assertEquals(model.files(), ["s3://models/m/one.safetensors", "s3://models/m/two.safetensors"]);
  await using byUrl = await fastsafeOpen(new URL("s3://models/m/"), { network: { s3 }, lazy: true });
  assertEquals(byUrl.keys(), ["a", "b", "c"]);
});

Deno.test("names that cannot be opened are errors with the reason, and without secrets", async () => {
  const cases: [name: string | URL, message: string][] = [
    ["ftp://host/x?token=secret", 'Cannot open "ftp://host/x": the schemes are https, http, hf, s3 and file'],
    ["ftp://user:secret@host/x", 'Cannot open "ftp://host/x": the schemes are'],
    [new URL("gs://bucket/x"), "opens as s3:// with the endpoint https://storage.googleapis.com"],
    ["https://", 'Cannot open "https://": it is not a URL'],
    ["https://huggingface.co/org/name", 'it is a page for people: open "hf://org/name"'],
    ["https://huggingface.co/org/name/blob/v1/a/x.safetensors", 'open "hf://org/name@v1/a/x.safetensors"'],
    ["hf://gpt2", "a model has two names"],
    ["s3://b@d/x", "is not the name of a bucket"],
  ];
  for (const [name, message] of cases) {
    const error = await assertRejects(() => fastsafeOpen(name), TypeError, message);
    assertEquals(error.message.includes("secret"), false);
  }
  await assertRejects(
    () => saveFile({}, "https://host/x.safetensors"),
    TypeError,
    "only local files can be written",
  );
  const error = await assertRejects(() => fastsafeOpen("org/name"));
  assert((error as Error).message.includes('for a model on the Hub of Hugging Face open "hf://org/name"'));
});

Deno.test("the option network is checked", async () => {
  const cases: [network: unknown, message: string][] = [
    [{ retrys: 1 }, 'network has no option "retrys": did you mean retries?'],
    [{ retries: -1 }, "network.retries must be a whole number from 0 to 100"],
    [{ timeoutSeconds: 0 }, "network.timeoutSeconds must be more than 0"],
    [{ timeoutSeconds: "1" }, "network.timeoutSeconds must be a number"],
    [{ headers: { authorization: 7 } }, "network.headers must be an object of strings"],
    [{ headers: { "a b": "x" } }, "network.headers has a name or a value that HTTP does not allow"],
    [{ headers: { Range: "x" } }, 'network.headers cannot have "Range", which the package sets'],
    [{ hub: { token: 7 } }, "network.hub.token must be a string or false"],
    [{ hub: { endpoint: "mirror" } }, "network.hub.endpoint must be an https: or http: URL"],
    [{ s3: { key: "x" } }, 'network.s3 has no option "key"'],
    [{ s3: { credentials: "x" } }, "network.s3.credentials must be a function"],
  ];
  for (const [network, message] of cases) {
    await assertRejects(() => fastsafeOpen("x", { network: network as object }), Error, message);
  }
  assertThrows(() => new SafeTensorsFileLoader(null, { network: { x: 1 } as object }), TypeError);
});
