/**
 * Files on a server, read by fetch: every fault of a server has one outcome.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { RemoteError, UseAfterCloseError } from "@x/fastsafetensors";
import { HttpClient } from "../../src/files/http/client.ts";
import { FIRST_BYTES, HttpFile } from "../../src/files/http/http_file.ts";
import { labelOf } from "../../src/files/http/labels.ts";
import { ETAG, type Fault, FaultyServer, type Reply } from "../support/faulty_server.ts";
import { assertBytes, noise } from "../support/models.ts";
import { TestHost } from "../support/test_host.ts";

const SIZE = 3 * 2 ** 20 + 123;
const BYTES = noise(SIZE, 7);

interface Setting {
  readonly fault?: Fault;
  readonly url?: (server: FaultyServer) => string;
  readonly headers?: Record<string, string>;
  readonly retries?: number;
  readonly timeoutSeconds?: number;
  readonly signal?: AbortSignal;
}

/** Opens the file `/x` of a new server. */
async function opened(setting: Setting = {}) {
  const server = new FaultyServer({ "/x": BYTES }, setting.fault);
  const host = new TestHost();
  const url = setting.url?.(server) ?? server.url("/x");
  const name = { path: labelOf(url), locate: () => Promise.resolve({ url, headers: setting.headers ?? {} }) };
  const limits = { retries: setting.retries ?? 3, timeoutSeconds: setting.timeoutSeconds ?? 30 };
  const signal = setting.signal ?? new AbortController().signal;
  try {
    const file = await HttpFile.open({ client: new HttpClient(host), limits, signal }, name);
    return {
      server,
      host,
      file,
      async [Symbol.asyncDispose]() {
        await file.close();
        assertEquals(host.retained, 0);
        await server[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    assertEquals(host.retained, 0);
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

/** Reads a range, and compares it with the file. */
async function readAndCompare(file: HttpFile, offset: number, length: number): Promise<void> {
  const target = new Uint8Array(length);
  await file.read(offset, target);
  assertBytes(target, BYTES.subarray(offset, offset + length), `${length} bytes at ${offset}`);
}

Deno.test("one request opens a file: its size, its ETag and its first bytes", async () => {
  await using at = await opened();
  const { file, server } = at;
  assertEquals([file.size, file.etag, file.ranges, file.sha256], [SIZE, ETAG, true, null]);
  assertEquals(file.head, BYTES.subarray(0, FIRST_BYTES));
  assertEquals(server.requests.length, 1);
  assertEquals(server.requests[0]!.range, { first: 0, last: FIRST_BYTES - 1 });
  assertEquals(server.requests[0]!.headers.get("accept-encoding"), "identity");
});

Deno.test("a range is one request with If-Match, and several can run at once", async () => {
  await using at = await opened();
  const { file, server } = at;
  file.releaseHead();
  await Promise.all([0, 1, 2].map((part) => readAndCompare(file, part * 2 ** 20, 2 ** 20)));
  await readAndCompare(file, SIZE - 1, 1);
  assertEquals(server.requests.length, 5);
  assertEquals(server.requests.slice(1).map(({ headers }) => headers.get("if-match")), Array(4).fill(ETAG));
});

Deno.test("a small file needs one request", async () => {
  const server = new FaultyServer({ "/small": BYTES.subarray(0, 1000) });
  await using _server = server;
  const host = new TestHost();
  const url = server.url("/small");
  const limits = { retries: 0, timeoutSeconds: 30 };
  const context = { client: new HttpClient(host), limits, signal: new AbortController().signal };
  const file = await HttpFile.open(context, {
    path: url,
    locate: () => Promise.resolve({ url, headers: {} }),
  });
  file.releaseHead();
  await readAndCompare(file, 10, 990);
  await file.close();
  assertEquals(server.requests.length, 1);
});

/** Faults of one range request that another try mends, and the note on it. */
const MENDED: readonly (readonly [what: string, fault: (usual: Reply) => Reply, reason: RegExp])[] = [
  ["503", () => ({ status: 503 }), /: the server answered 503 Service Unavailable$/],
  ["429", () => ({ status: 429 }), /: the server answered 429 Too Many Requests$/],
  ["500", () => ({ status: 500 }), /: the server answered 500 Internal Server Error$/],
  ["408", () => ({ status: 408 }), /: the server answered 408 Request Timeout$/],
  ["a connection that is cut in the body", (usual) => ({ ...usual, cutAfter: 100_000 }), /./],
  ["a range that is shorter than its length", (usual) => {
    const body = usual.body!.subarray(0, 1000);
    return { ...usual, body, headers: { ...usual.headers, "content-length": "1000" } };
  }, /: 1048576 bytes expected at offset 1048576, 1000 came$/],
];

for (const [what, change, reason] of MENDED) {
  Deno.test(`a range is asked for again after ${what}, from the byte reached on`, async () => {
    await using at = await opened({ fault: once(1, change) });
    const { file, server, host } = at;
    await readAndCompare(file, 2 ** 20, 2 ** 20);
    assertEquals(server.requests.length, 3);
    const first = server.requests[2]!.range!.first - 2 ** 20;
    const most = what.includes("cut") ? 100_000 : what.includes("shorter") ? 1000 : 0;
    assertEquals([first >= 0, first <= most], [true, true], String(first));
    assertEquals(host.pauses.length, 1);
    assert(host.pauses[0]! >= 100 && host.pauses[0]! <= 200, `${host.pauses}`);
    const [note, ...others] = file.takeNotes();
    assert(note?.startsWith(`Repeated a request for "${file.path}"`) && reason.test(note), note);
    assertEquals([others, file.takeNotes()], [[], []]);
  });
}

Deno.test("a range is asked for again after a connection that the server closed", async () => {
  await using at = await opened({ fault: once(1, () => ({ drops: true })) });
  await readAndCompare(at.file, 2 ** 20, 2 ** 20);
  assertEquals(at.server.requests.length, 3);
});

Deno.test("pauses grow, and the last failure is an error with its status and place", async () => {
  await using at = await opened({ fault: (request) => request.index > 0 ? { status: 503 } : null });
  const { file, host, server } = at;
  const error = await assertRejects(() => readAndCompare(file, 2 ** 20, 2 ** 20), RemoteError);
  assertEquals(
    error.message,
    `Cannot read "${server.url("/x")}": the server answered 503 Service Unavailable, also after 3 more tries`,
  );
  assertEquals([error.code, error.status, error.offset, error.expected], [
    "ServerFailure",
    503,
    2 ** 20,
    2 ** 20,
  ]);
  assertEquals(server.requests.length, 5);
  const limits = [[100, 200], [200, 400], [400, 800]] as const;
  assertEquals(host.pauses.map((pause, index) => pause >= limits[index]![0] && pause <= limits[index]![1]), [
    true,
    true,
    true,
  ]);
});

Deno.test("each try that brings bytes makes all other tries available again", async () => {
  const fault: Fault = (request, usual) => request.index > 0 ? { ...usual, cutAfter: 200_000 } : null;
  await using at = await opened({ fault, retries: 1 });
  await readAndCompare(at.file, 2 ** 20, 2 ** 20);
  assert(at.server.requests.length > 5, `${at.server.requests.length}`);
});

Deno.test("a pause that the server asks for is kept, unless it is too long", async () => {
  for (
    const [headers, seconds] of [
      [{ "retry-after": "7" }, 7],
      [{ ratelimit: '"resolvers";r=0;t=55', "retry-after": "7" }, 55],
      [{ ratelimit: '"resolvers";r=3;t=55' }, 0],
      [{ ratelimit: ";r=1".repeat(50_000) }, 0],
    ] as const
  ) {
    await using at = await opened({ fault: once(1, () => ({ status: 429, headers })) });
    await readAndCompare(at.file, 2 ** 20, 10);
    assertEquals(at.host.pauses.map((pause) => Math.floor(pause / 1000)), [seconds]);
  }
  await using at = await opened({
    fault: once(1, () => ({ status: 429, headers: { "retry-after": "3000" } })),
  });
  await assertRejects(
    () => readAndCompare(at.file, 2 ** 20, 10),
    RemoteError,
    "the server answered 429 Too Many Requests, and asks to wait for 3000 seconds: try again then",
  );
});

Deno.test("a stall is a failure after timeoutSeconds without a byte, and another try mends it", async () => {
  const never = Promise.withResolvers<void>();
  for (const stalled of [{ hold: never.promise }, { stall: never.promise, cutAfter: 1000 }]) {
    await using at = await opened({
      timeoutSeconds: 0.3,
      fault: once(1, (usual) => ({ ...usual, ...stalled })),
    });
    await readAndCompare(at.file, 2 ** 20, 2 ** 20);
    const [note] = at.file.takeNotes();
    assert(note?.endsWith(": no byte came for 0.3 seconds"), note);
    assertEquals(at.server.requests.length, 3);
  }
  never.resolve();
});

/** Faults of one range request that are errors, without another try. */
const FINAL: readonly (readonly [
  what: string,
  fault: (usual: Reply) => Reply,
  code: RemoteError["code"],
  message: string,
])[] = [
  [
    "412",
    () => ({ status: 412 }),
    "Changed",
    ": the file was changed after its header was read: open it again",
  ],
  [
    "404",
    () => ({ status: 404 }),
    "Changed",
    ": the file was changed after its header was read: open it again",
  ],
  ["another ETag", changed({ etag: '"version-2"' }), "Changed", ": the file was changed after"],
  [
    "another size",
    changed({ "content-range": `bytes 1048576-1049575/${SIZE + 1}` }),
    "Changed",
    ": the file was changed",
  ],
  [
    "another range",
    changed({ "content-range": `bytes 1048575-1049574/${SIZE}` }),
    "InvalidAnswer",
    `: bytes 1048576 to 1049575 were asked for, the server answered with "bytes 1048575-1049574/${SIZE}"`,
  ],
  [
    "a longer range",
    changed({ "content-range": `bytes 1048576-1049576/${SIZE}` }),
    "InvalidAnswer",
    "were asked for",
  ],
  [
    "an unknown size",
    changed({ "content-range": "bytes 1048576-1049575/*" }),
    "InvalidAnswer",
    "no valid Content-Range",
  ],
  [
    "a range without numbers",
    changed({ "content-range": "bytes" }),
    "InvalidAnswer",
    "no valid Content-Range",
  ],
  [
    "the whole file",
    () => ({ status: 200, body: BYTES }),
    "InvalidAnswer",
    ": the server answered 200 OK with the whole file to a request for a range",
  ],
  [
    "more bytes than the range",
    (usual) => {
      const body = new TextEncoder().encode(`3E9\r\n${"x".repeat(1001)}\r\n0\r\n\r\n`);
      const { "content-range": range } = usual.headers!;
      return { ...usual, body, headers: { "content-range": range!, "transfer-encoding": "chunked" } };
    },
    "InvalidAnswer",
    ": more bytes came than the range has",
  ],
  [
    "an encoded body",
    changed({ "content-encoding": "gzip" }),
    "InvalidAnswer",
    ': the server encoded the bytes (Content-Encoding "gzip"), although none was asked for',
  ],
  [
    "403",
    () => ({ status: 403 }),
    "AccessDenied",
    ": the server answered 403 Forbidden: access was refused in the",
  ],
  ["400", () => ({ status: 400 }), "InvalidAnswer", ": the server answered 400 Bad Request"],
];

for (const [what, change, code, message] of FINAL) {
  Deno.test(`an answer to a range with ${what} is an error`, async () => {
    const twice = what === "403" ? 2 : 1; // its address is resolved anew once
    const fault: Fault = ({ index }, usual) => index >= 1 && index <= twice ? change(usual) : null;
    await using at = await opened({ fault });
    const { file, server, host } = at;
    const error = await assertRejects(() => readAndCompare(file, 2 ** 20, 1000), RemoteError, message);
    assert(error.message.startsWith(`Cannot read "${file.path}"`), error.message);
    assertEquals([error.code, server.requests.length, host.pauses], [code, 1 + twice, []]);
    await readAndCompare(file, 2 ** 20, 1000); // one bad answer is one bad answer
  });
}

Deno.test("a range that the server cuts short is continued", async () => {
  const fault: Fault = ({ index, range }, usual) => {
    if (index === 0 || usual.body!.length <= 300_000) return null;
    const content = `bytes ${range!.first}-${range!.first + 299_999}/${SIZE}`;
    const headers = { ...usual.headers, "content-range": content };
    return { ...usual, headers, body: usual.body!.subarray(0, 300_000) };
  };
  await using at = await opened({ fault });
  await readAndCompare(at.file, 2 ** 20, 2 ** 20);
  assertEquals([at.server.requests.length, at.file.takeNotes()], [5, []]);
});

Deno.test("a status of 200 with the range that was asked for is as good as 206", async () => {
  await using at = await opened({ fault: (_, usual) => ({ ...usual, status: 200 }) });
  await readAndCompare(at.file, 2 ** 20, 2 ** 20);
  assertEquals(at.file.ranges, true);
});

Deno.test("a weak ETag is not sent, and compared", async () => {
  let tag = 'W/"a"';
  const fault: Fault = (_, usual) => ({ ...usual, headers: { ...usual.headers, etag: tag } });
  await using at = await opened({ fault });
  assertEquals(at.file.etag, null);
  await readAndCompare(at.file, 2 ** 20, 100);
  assertEquals(at.server.requests[1]!.headers.has("if-match"), false);
  tag = 'W/"b"';
  await assertRejects(() => readAndCompare(at.file, 2 ** 20, 100), RemoteError, "was changed");
});

Deno.test("without an ETag the time of the last change is compared", async () => {
  let time = "Mon, 30 Nov 2026 10:00:00 GMT";
  const fault: Fault = (_, { headers, ...usual }) => {
    return { ...usual, headers: { "content-range": headers!["content-range"]!, "last-modified": time } };
  };
  await using at = await opened({ fault });
  await readAndCompare(at.file, 2 ** 20, 100);
  time = "Mon, 30 Nov 2026 10:00:01 GMT";
  await assertRejects(() => readAndCompare(at.file, 2 ** 20, 100), RemoteError, "was changed");
});

Deno.test("a server that ignores ranges is read as one stream", async () => {
  const fault: Fault = (_, { headers: _headers, ...usual }) => ({
    ...usual,
    status: 200,
    body: BYTES,
    headers: { etag: ETAG },
  });
  await using at = await opened({ fault });
  const { file, server } = at;
  assertEquals([file.size, file.ranges, file.readers], [SIZE, false, 1]);
  file.releaseHead();
  await Promise.all([
    readAndCompare(file, 1000, 1000), // among the first bytes
    readAndCompare(file, 200_000, 200_000),
    readAndCompare(file, 400_000, 2 ** 20),
    readAndCompare(file, 2 ** 21, SIZE - 2 ** 21),
  ]);
  assertEquals(server.requests.length, 1);
  await readAndCompare(file, 300_000, 1000); // goes back
  assertEquals(server.requests.length, 2);
});

Deno.test("a stream that is cut is continued by another request, unless the file has changed", async () => {
  let tag = ETAG;
  const fault: Fault = ({ index }, usual) => {
    return {
      ...usual,
      status: 200,
      body: BYTES,
      headers: { etag: tag },
      ...index === 0 && { cutAfter: 2 ** 20 },
    };
  };
  {
    await using at = await opened({ fault });
    await readAndCompare(at.file, 2 ** 19, 2 ** 21);
    assertEquals(at.server.requests.length, 2);
  }
  await using at = await opened({ fault });
  tag = '"version-2"';
  await assertRejects(() => readAndCompare(at.file, 2 ** 19, 2 ** 21), RemoteError, "was changed");
});

/** Answers to the first request that are errors. */
const REFUSED:
  readonly (readonly [what: string, reply: (usual: Reply) => Reply, code: string, message: string])[] = [
    [
      "404",
      () => ({ status: 404 }),
      "NotFound",
      ": the server answered 404 Not Found: there is no such file",
    ],
    [
      "401",
      () => ({ status: 401 }),
      "AccessDenied",
      ": the server answered 401 Unauthorized: it needs a token",
    ],
    [
      "no size",
      () => ({ headers: { "transfer-encoding": "chunked" }, body: new TextEncoder().encode("0\r\n\r\n") }),
      "InvalidAnswer",
      ": the server does not say how large the file is (200 OK)",
    ],
    ["endless headers", () => ({ endless: `x-long: ${"x".repeat(1000)}\r\n` }), "Unreachable", ": "],
    [
      "a redirect to another scheme",
      () => ({ status: 302, headers: { location: "ftp://127.0.0.1/x" } }),
      "InvalidAnswer",
      ': the server redirects from http to "ftp://127.0.0.1/x"',
    ],
    [
      "a redirect to what is not a URL",
      () => ({ status: 302, headers: { location: "http://[" } }),
      "InvalidAnswer",
      ": the server redirects to what is not a URL",
    ],
    [
      "redirects without end",
      () => ({ status: 302, headers: { location: "/x" } }),
      "InvalidAnswer",
      ": the server redirects more than 10 times",
    ],
    ["an encoded body", changed({ "content-encoding": "br" }), "InvalidAnswer", 'Content-Encoding "br"'],
  ];

for (const [what, change, code, message] of REFUSED) {
  Deno.test(`opening a file is an error if the server answers with ${what}`, async () => {
    const error = await assertRejects(
      () => opened({ fault: (_, usual) => change(usual) }),
      RemoteError,
      message,
    );
    assertEquals(error.code, code);
    assertEquals(error.errno, code === "NotFound" ? 2 : 0);
  });
}

Deno.test("a redirect is followed once, and headers of the user do not go to another host", async () => {
  await using other = new FaultyServer({ "/signed": BYTES });
  const location = other.url("/signed?signature=secret", "localhost");
  await using at = await opened({
    headers: { authorization: "Bearer secret", "x-amz-security-token": "secret" },
    fault: () => ({ status: 302, headers: { location } }),
  });
  const { file, server, host } = at;
  await readAndCompare(file, 2 ** 20, 2 ** 20);
  assertEquals([server.requests.length, other.requests.length], [1, 2]);
  assertEquals(server.requests[0]!.headers.get("authorization"), "Bearer secret");
  for (const { headers } of other.requests) {
    assertEquals([headers.get("authorization"), headers.get("x-amz-security-token")], [undefined, undefined]);
  }
  assertEquals(new Set(host.connections), new Set([server.host, new URL(location).host]));
});

Deno.test("a redirect on the same host keeps the headers of the user", async () => {
  await using at = await opened({
    headers: { authorization: "Bearer secret" },
    url: (server) => server.url("/old"),
    fault: ({ target }) => target === "/old" ? { status: 307, headers: { location: "/x" } } : null,
  });
  assertEquals(at.server.requests.map(({ headers }) => headers.get("authorization")), [
    "Bearer secret",
    "Bearer secret",
  ]);
});

Deno.test("an expired signature is resolved anew, once for all readers", async () => {
  await using other = new FaultyServer({ "/signed": BYTES });
  let generation = 1;
  other.fault = ({ target }) => target.endsWith(`=${generation}`) ? null : { status: 403 };
  await using at = await opened({
    fault: () => ({ status: 302, headers: { location: other.url(`/signed?generation=${generation}`) } }),
  });
  const { file, server } = at;
  generation = 2;
  await Promise.all([0, 1, 2].map((part) => readAndCompare(file, part * 2 ** 20, 2 ** 20)));
  assertEquals(server.requests.length, 2);
});

Deno.test("an address that is resolved anew must name the same version of the file", async () => {
  await using other = new FaultyServer({ "/signed": BYTES });
  let generation = 1;
  other.fault = ({ target }, usual) => {
    if (!target.endsWith(`=${generation}`)) return { status: 403 };
    return generation === 1 ? null : { ...usual, headers: { ...usual.headers, etag: '"version-2"' } };
  };
  await using at = await opened({
    fault: () => ({ status: 302, headers: { location: other.url(`/signed?generation=${generation}`) } }),
  });
  generation = 2;
  const error = await assertRejects(() => readAndCompare(at.file, 2 ** 20, 100), RemoteError, "was changed");
  assertEquals(error.code, "Changed");
});

Deno.test("an abort ends a read that waits for the server, with the reason of the signal", async () => {
  const never = Promise.withResolvers<void>();
  const arrived = Promise.withResolvers<void>();
  await using at = await opened({
    fault: ({ index }) => {
      if (index === 0) return null;
      arrived.resolve();
      return { hold: never.promise };
    },
  });
  const stop = new AbortController();
  const reading = at.file.read(2 ** 20, new Uint8Array(10), stop.signal);
  await arrived.promise;
  const reason = new Error("enough");
  stop.abort(reason);
  assertEquals(await assertRejects(() => reading), reason);
  never.resolve();
  await at.file.close();
  await assertRejects(() => at.file.read(2 ** 20, new Uint8Array(10)), UseAfterCloseError);
});

Deno.test("messages show neither the user, nor signatures, nor the fragment of a URL", () => {
  assertEquals(
    labelOf(
      "https://user:secret@host:8443/a/b.safetensors?download=true&X-Amz-Signature=secret&token=s#secret",
    ),
    "https://host:8443/a/b.safetensors?download=true&X-Amz-Signature=…&token=…",
  );
  assertEquals(labelOf("https://host/a?secret"), "https://host/a?…");
});

Deno.test("an error of a connection does not show the URL", async () => {
  const { port } = (() => {
    using listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
    return listener.addr as Deno.NetAddr;
  })();
  const url = () => `http://127.0.0.1:${port}/x?signature=secret`;
  const error = await assertRejects(() => opened({ url, retries: 1 }), RemoteError);
  assert(
    /^Cannot open "http:\/\/127.0.0.1:\d+\/x\?signature=…": .*refused.*, also after a second try$/.test(
      error.message,
    ),
    error.message,
  );
  assertEquals([Deno.inspect(error).includes("secret"), error.code], [false, "Unreachable"]);
});

/** Makes a fault at one request. */
function once(index: number, change: (usual: Reply) => Reply): Fault {
  return (request, usual) => request.index === index ? change(usual) : null;
}

/** Changes headers of the usual answer. */
function changed(headers: Record<string, string>): (usual: Reply) => Reply {
  return (usual) => ({ ...usual, headers: { ...usual.headers, ...headers } });
}
