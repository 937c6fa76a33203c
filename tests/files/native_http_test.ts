/**
 * Files on a server, read by lanes through libcurl: the same bytes as from disk, and for every fault of a server one
 * outcome.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { ReadError, RemoteError } from "@x/fastsafetensors";
import { useNativeEngine } from "../support/engine.ts";
import { ETAG, type Fault, FaultyServer, type Reply } from "../support/faulty_server.ts";
import { assertBytes, assertTensor, fileOf, noise, type TensorSpec } from "../support/models.ts";
import { suite } from "../support/skip.ts";
import { missingCurl, openRemote } from "./native_http_support.ts";

const SPECS: TensorSpec[] = [
  { name: "a", dtype: "F32", shape: [1000, 1000] },
  { name: "scalar", dtype: "F64", shape: [] },
  { name: "b", dtype: "BF16", shape: [300, 7000], bytes: someBf16(300 * 7000) },
  { name: "empty", dtype: "F32", shape: [0, 4] },
  { name: "c", dtype: "U8", shape: [3_000_001] },
];

/** BF16 numbers without infinities and NaN. */
function someBf16(count: number): Uint8Array<ArrayBuffer> {
  const words = new Uint16Array(noise(2 * count, 3).buffer, 0, count);
  return new Uint8Array(words.map((word) => word & 0x3fff).buffer);
}

const { bytes: FILE, tensors: TENSORS } = fileOf(SPECS);

/** A fault for the ranges that lanes ask for: not for the request that opens the file. */
function ofRanges(change: (usual: Reply, index: number) => Reply | null): Fault {
  return ({ index }, usual) => index === 0 ? null : change(usual, index);
}

/** A fault for the first range only. */
function once(change: (usual: Reply) => Reply): Fault {
  return ofRanges((usual, index) => index === 1 ? change(usual) : null);
}

suite("Files on a server, by lanes", "native", await useNativeEngine() ?? await missingCurl(), () => {
  Deno.test("a model on a server has the same tensors as its file", async () => {
    await using server = new FaultyServer({ "/m.safetensors": FILE });
    await using model = await openRemote(server.url("/m.safetensors"));
    for (const expected of TENSORS) assertTensor(await model.getTensor(expected.name), expected);
    await model.whenLoaded();
    const { path, threads, notes } = model.stats();
    assertEquals([path, threads > 1, notes], ["http", true, []]);
    const [opening, ...ranges] = server.requests;
    assertEquals(opening!.range!.first, 0);
    assert(ranges.length > 1);
    for (const { headers } of ranges) {
      assertEquals([headers.get("accept-encoding"), headers.get("if-match")], ["identity", ETAG]);
    }
    // Each byte of the tensors once.
    const asked = ranges.reduce((sum, { range }) => sum + range!.last - range!.first + 1, 0);
    assertEquals(asked, TENSORS.reduce((sum, { bytes }) => sum + bytes.byteLength, 0));
  });

  Deno.test("casts, slices, names and rows of a model on a server are those of its file", async () => {
    await using server = new FaultyServer({ "/m.safetensors": FILE });
    const url = server.url("/m.safetensors");
    await using cast = await openRemote(url, { names: ["b"], dtype: "F32" });
    assertEquals([...cast.keys()], ["b"]);
    const words = new Uint16Array(TENSORS[2]!.bytes.buffer);
    const expected = new Uint8Array(Uint32Array.from(words, (word) => word << 16).buffer);
    assertBytes((await cast.getTensor("b")).bytes, expected, "b as F32");

    await using lazy = await openRemote(url, { lazy: true });
    const part = await lazy.getSlice("a", [10, 12], [100, 103]);
    const all = new Uint32Array(TENSORS[0]!.bytes.buffer);
    const rows = [10, 11].flatMap((row) => [...all.subarray(row * 1000 + 100, row * 1000 + 103)]);
    assertEquals([...part.shape, ...new Uint32Array(part.bytes.slice().buffer)], [2, 3, ...rows]);
    const row = await lazy.getRows("b", [299]);
    assertBytes(row.bytes, TENSORS[2]!.bytes.subarray(299 * 14000), "the last row of b");
    assertTensor(await lazy.getTensor("scalar"), TENSORS[1]!);
  });

  Deno.test("several files on servers load as one model", async () => {
    const other = fileOf([{ name: "other", dtype: "I64", shape: [100_000] }]);
    await using server = new FaultyServer({ "/1.safetensors": FILE, "/2.safetensors": other.bytes });
    await using model = await openRemote([server.url("/1.safetensors"), server.url("/2.safetensors")]);
    for (const expected of [...TENSORS, ...other.tensors]) {
      assertTensor(await model.getTensor(expected.name), expected);
    }
  });

  Deno.test("headers of an address go with every request of the lanes", async () => {
    await using server = new FaultyServer({ "/m.safetensors": FILE });
    const headers = { authorization: "Bearer secret", "x-empty": "" };
    await using model = await openRemote(server.url("/m.safetensors"), { headers });
    await model.whenLoaded();
    for (const { headers } of server.requests) {
      assertEquals([headers.get("authorization"), headers.get("x-empty")], ["Bearer secret", ""]);
    }
  });

  const mended: readonly (readonly [what: string, fault: Fault, reason: string])[] = [
    ["503", once(() => ({ status: 503 })), "the server answered 503 Service Unavailable"],
    [
      "503 with Retry-After",
      once(() => ({ status: 503, headers: { "retry-after": "0" } })),
      "the server answered 503 Service Unavailable",
    ],
    ["429", once(() => ({ status: 429 })), "the server answered 429 Too Many Requests"],
    [
      "a connection that is cut",
      once((usual) => ({ ...usual, cutAfter: usual.body!.length - 1 })),
      "partial",
    ],
    ["a connection that is cut before the answer", once((usual) => ({ ...usual, cutAfter: 0 })), "partial"],
  ];
  for (const [what, fault, reason] of mended) {
    Deno.test(`a load continues after ${what}, and a note tells it`, async () => {
      await using server = new FaultyServer({ "/m.safetensors": FILE }, fault);
      await using model = await openRemote(server.url("/m.safetensors"));
      for (const expected of TENSORS) assertTensor(await model.getTensor(expected.name), expected);
      await model.whenLoaded();
      const { notes } = model.stats();
      assertEquals(notes.length, 1);
      assert(notes[0]!.startsWith("Repeated a request to a server: "), notes[0]);
      assertStringIncludes(notes[0]!, reason);
    });
  }

  Deno.test("a load continues after a server that sends nothing for timeoutSeconds", async () => {
    const never = Promise.withResolvers<void>();
    await using server = new FaultyServer(
      { "/m.safetensors": FILE },
      once((usual) => ({ ...usual, cutAfter: 70_000, stall: never.promise })),
    );
    // Many tries: on a busy machine the right answer can be late too.
    const options = { timeoutSeconds: 1, retries: 50 };
    await using model = await openRemote(server.url("/m.safetensors"), options);
    for (const expected of TENSORS) assertTensor(await model.getTensor(expected.name), expected);
  });

  const failures: readonly (readonly [
    what: string,
    change: (usual: Reply) => Reply,
    code: RemoteError["code"],
    status: number,
    message: string,
  ])[] = [
    [
      "503 for ever",
      () => ({ status: 503 }),
      "ServerFailure",
      503,
      "503 Service Unavailable, also after a second try",
    ],
    ["404", () => ({ status: 404 }), "Changed", 404, "the file was changed"],
    ["412", () => ({ status: 412 }), "Changed", 412, "the file was changed"],
    [
      "403 for ever",
      () => ({ status: 403 }),
      "AccessDenied",
      403,
      "access was refused in the middle of the file",
    ],
    [
      "a redirect",
      () => ({ status: 302, headers: { location: "http://127.0.0.1:1/" } }),
      "InvalidAnswer",
      302,
      "302",
    ],
    [
      "another ETag",
      (usual) => ({ ...usual, headers: { ...usual.headers, etag: '"v2"' } }),
      "Changed",
      206,
      "changed",
    ],
    ["the whole file", () => ({ body: FILE }), "InvalidAnswer", 200, "with the whole file"],
    [
      "an encoded body",
      (usual) => ({
        ...usual,
        headers: { ...usual.headers, "content-encoding": "gzip" },
      }),
      "InvalidAnswer",
      206,
      "the server encoded the bytes",
    ],
    [
      "another range",
      (usual) => {
        const range = usual.headers!["content-range"]!.replace(
          / (\d+)/,
          (_, first) => ` ${Number(first) + 1}`,
        );
        return { ...usual, headers: { ...usual.headers, "content-range": range } };
      },
      "InvalidAnswer",
      206,
      "with another range",
    ],
    [
      "endless headers",
      () => ({ endless: `x: ${"y".repeat(100)}\r\n` }),
      "InvalidAnswer",
      206,
      "headers of the answer",
    ],
    ["cuts for ever", (usual) => ({ ...usual, cutAfter: 0 }), "Unreachable", 0, "also after a second try"],
  ];
  for (const [what, change, code, status, message] of failures) {
    Deno.test(`a load fails after ${what}, and its error has no secret`, async () => {
      await using server = new FaultyServer({ "/m.safetensors": FILE }, ofRanges(change));
      const options = { retries: 1, headers: { authorization: "Bearer secret" } };
      await using model = await openRemote(server.url("/m.safetensors?signature=secret"), options);
      const error = await assertRejects(() => model.getTensor("c"), RemoteError, message);
      assertEquals([error.code, error.status], [code, status]);
      assert(error instanceof ReadError);
      assertStringIncludes(error.message, server.url("/m.safetensors"));
      assert(!`${error.message}${error.stack}${error.path}`.includes("secret"));
      await assertRejects(() => model.whenLoaded(), RemoteError);
    });
  }

  Deno.test("an address that expires is found anew, once for all lanes", async () => {
    let located = 0;
    const expired: Fault = ({ index, headers }) =>
      index > 2 && headers.get("x-token") === "1" ? { status: 403 } : null;
    await using server = new FaultyServer({ "/m.safetensors": FILE }, expired);
    const url = server.url("/m.safetensors");
    await using model = await openRemote(url, {
      locate: () => Promise.resolve({ url, headers: { "x-token": String(++located) } }),
    });
    for (const expected of TENSORS) assertTensor(await model.getTensor(expected.name), expected);
    assertEquals(located, 2);
  });

  Deno.test("a load fails with the reason why an address cannot be found anew", async () => {
    let located = 0;
    await using server = new FaultyServer({ "/m.safetensors": FILE }, ofRanges(() => ({ status: 401 })));
    const url = server.url("/m.safetensors");
    await using model = await openRemote(url, {
      locate: () =>
        located++ === 0 ? Promise.resolve({ url, headers: {} }) : Promise.reject(new Error("no new token")),
    });
    await assertRejects(() => model.getTensor("c"), Error, "no new token");
  });

  Deno.test("an abort ends a load while its server is silent", async () => {
    const asked = Promise.withResolvers<void>(), never = Promise.withResolvers<void>();
    await using server = new FaultyServer(
      { "/m.safetensors": FILE },
      ofRanges((usual) => {
        asked.resolve();
        return { ...usual, hold: never.promise };
      }),
    );
    const controller = new AbortController();
    await using model = await openRemote(server.url("/m.safetensors"), { signal: controller.signal });
    const loading = assertRejects(() => model.getTensor("c"), Error, "enough");
    await asked.promise;
    controller.abort(new Error("enough"));
    await loading;
  });

  Deno.test("close() ends a load while its server is silent", async () => {
    const asked = Promise.withResolvers<void>(), never = Promise.withResolvers<void>();
    await using server = new FaultyServer(
      { "/m.safetensors": FILE },
      ofRanges((usual) => {
        asked.resolve();
        return { ...usual, cutAfter: 10, stall: never.promise };
      }),
    );
    const model = await openRemote(server.url("/m.safetensors"));
    await asked.promise;
    await model.close();
  });

  Deno.test("a server that ignores ranges is read as one stream, with a note", async () => {
    const whole: Fault = (_, usual) => usual.status === 206 ? { headers: { etag: ETAG }, body: FILE } : null;
    await using server = new FaultyServer({ "/m.safetensors": FILE }, whole);
    await using model = await openRemote(server.url("/m.safetensors"));
    for (const expected of TENSORS) assertTensor(await model.getTensor(expected.name), expected);
    await model.whenLoaded();
    assertStringIncludes(model.stats().notes.join(), "ignores ranges");
  });

  const x = noise(5_000_000, 1);
  const other = fileOf([{ name: "x", dtype: "U8", shape: [x.byteLength], bytes: x }]);

  /** Loads a URL in a program with an environment of its own. */
  async function loadInChild(url: string, env: Record<string, string>) {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", new URL("./native_http_child.ts", import.meta.url).pathname, url],
      env: { ...env, NO_COLOR: "1" },
    }).output();
    const decoder = new TextDecoder();
    assertEquals(code, 0, decoder.decode(stderr));
    const { sum, path, notes } = JSON.parse(decoder.decode(stdout));
    assertEquals([sum, path], [x.reduce((sum, byte) => sum + byte, 0), "http"]);
    return notes;
  }

  Deno.test("without libcurl a model loads through fetch, with a note", async () => {
    await using server = new FaultyServer({ "/m.safetensors": other.bytes });
    const [note] = await loadInChild(server.url("/m.safetensors"), {
      FASTSAFETENSORS_CURL_LIB: "/nowhere/libcurl.so",
    });
    assertStringIncludes(
      note,
      "Files on servers are read through fetch, which is slower: libcurl is not available",
    );
    assertStringIncludes(note, 'FASTSAFETENSORS_CURL_LIB names "/nowhere/libcurl.so"');
  });

  Deno.test("a proxy that the environment names gets the requests of lanes", async () => {
    const url = "http://far.example/m.safetensors";
    await using proxy = new FaultyServer({ [url]: other.bytes });
    assertEquals(await loadInChild(url, { http_proxy: proxy.url(""), no_proxy: "", NO_PROXY: "" }), []);
    assert(proxy.requests.length > 1);
    assertEquals(new Set(proxy.requests.map(({ target }) => target)), new Set([url]));
  });
});
