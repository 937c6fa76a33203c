/**
 * A real server: nginx, over HTTP, and over HTTPS with an authority of the test.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { fastsafeOpen, RemoteError } from "@x/fastsafetensors";
import { HttpClient } from "../../../src/files/http/client.ts";
import { HttpFile } from "../../../src/files/http/http_file.ts";
import { type Certificates, makeCertificates, whyNoCertificates } from "../../support/certificates.ts";
import { assertBytes, fileOf, tempFolder } from "../../support/models.ts";
import { type Nginx, startNginx, whyNoNginx } from "../../support/nginx.ts";
import "../../support/open_library.ts";
import { suite } from "../../support/skip.ts";
import { TestHost } from "../../support/test_host.ts";

const ONE = fileOf([{ name: "a", dtype: "F32", shape: [1000, 1000] }, {
  name: "b",
  dtype: "I64",
  shape: [3],
}]);
const TWO = fileOf([{ name: "c", dtype: "BF16", shape: [700, 999] }]);
const INDEX = JSON.stringify({
  metadata: {},
  weight_map: { a: "one.safetensors", b: "one.safetensors", c: "two.safetensors" },
});

/** Locations with the faults that nginx can make. */
const LOCATIONS = `
  location /whole/ { alias ROOT/m/; max_ranges 0; }
  location /packed/ { alias ROOT/m/; gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any; }
  location /closing/ { alias ROOT/m/; keepalive_requests 1; }
  location /dead/ { return 444; }
  location /down/ { return 503; }
  location /old/ { rewrite ^/old/(.*)$ /m/$1 redirect; }
  location /plain/ { return 302 http://127.0.0.1:HTTP_PORT/m/one.safetensors; }
  location /weak/ { alias ROOT/m/; etag off; add_header ETag 'W/"a"'; }
`;

interface Served extends AsyncDisposable {
  readonly nginx: Nginx;
  readonly root: string;
  readonly certificates: Certificates;
}

async function serve(): Promise<Served> {
  const folder = await tempFolder();
  const root = `${folder.path}/root`;
  await Deno.mkdir(`${root}/m`, { recursive: true });
  await Deno.writeFile(`${root}/m/one.safetensors`, ONE.bytes);
  await Deno.writeFile(`${root}/m/two.safetensors`, TWO.bytes);
  await Deno.writeTextFile(`${root}/m/model.safetensors.index.json`, INDEX);
  const certificates = await makeCertificates(folder.path);
  const nginx = await startNginx(folder.path, root, certificates, LOCATIONS.replaceAll("ROOT", root));
  return {
    nginx,
    root,
    certificates,
    async [Symbol.asyncDispose]() {
      await nginx[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

/** Loads one of the files, or the index, and compares the tensors. */
async function loadAndCompare(url: string, tensors = ONE.tensors) {
  await using model = await fastsafeOpen(url);
  for (const { name, bytes } of tensors) assertBytes((await model.getTensor(name)).bytes, bytes, name);
  await model.whenLoaded();
  return model.stats();
}

suite("nginx", "nginx", whyNoNginx() ?? whyNoCertificates(), () => {
  Deno.test("nginx serves a sharded model: one request opens a file, and ranges bring its tensors", async () => {
    await using at = await serve();
    const stats = await loadAndCompare(`${at.nginx.http}/m/model.safetensors.index.json`, [
      ...ONE.tensors,
      ...TWO.tensors,
    ]);
    assertEquals([stats.path, stats.files], ["http", 2]);
    const requests = await at.nginx.requests();
    assertEquals(requests.filter((line) => !line.endsWith(" 206")), []);
    assert(requests.length <= 16, requests.join("\n"));
  });

  Deno.test("nginx in every form serves the same bytes", async () => {
    await using at = await serve();
    for (const place of ["packed", "closing", "old", "weak"]) {
      await loadAndCompare(`${at.nginx.http}/${place}/one.safetensors`);
    }
    const stats = await loadAndCompare(`${at.nginx.http}/whole/one.safetensors`);
    assert(stats.notes.some((note) => note.includes("ignores ranges")), stats.notes.join());
  });

  Deno.test("a server that closes connections or is down is an error after the last try", async () => {
    await using at = await serve();
    const network = { retries: 1 };
    for (
      const [place, code, message] of [
        ["dead", "Unreachable", "also after a second try"],
        ["down", "ServerFailure", "the server answered 503 Service Unavailable, also after a second try"],
      ] as const
    ) {
      const url = `${at.nginx.http}/${place}/one.safetensors`;
      const error = await assertRejects(() => fastsafeOpen(url, { network }), RemoteError, message);
      assertEquals(error.code, code);
    }
    const error = await assertRejects(
      () => fastsafeOpen(`${at.nginx.http}/m/none.safetensors`),
      RemoteError,
      "404",
    );
    assertEquals([error.code, error.errno], ["NotFound", 2]);
  });

  Deno.test("a file that is replaced on nginx in the middle of a load is an error", async () => {
    await using at = await serve();
    await using model = await fastsafeOpen(`${at.nginx.http}/m/one.safetensors`, { lazy: true });
    await Deno.writeFile(`${at.root}/new`, ONE.bytes);
    await Deno.utime(`${at.root}/new`, 1, 1); // the ETag of nginx is the time and the size
    await Deno.rename(`${at.root}/new`, `${at.root}/m/one.safetensors`);
    const error = await assertRejects(() => model.getTensor("a"), RemoteError);
    assertEquals(error.code, "Changed");
  });

  Deno.test("TLS is verified: an authority is trusted if a variable names it", async () => {
    await using at = await serve();
    const url = `${at.nginx.https}/m/model.safetensors.index.json`;
    const error = await assertRejects(
      () => fastsafeOpen(url),
      RemoteError,
      "name its certificate authority in DENO_CERT",
    );
    assertEquals(error.code, "Unreachable");
    Deno.env.set("SSL_CERT_FILE", at.certificates.authority);
    try {
      await loadAndCompare(url, [...ONE.tensors, ...TWO.tensors]);
      await assertRejects(
        () => fastsafeOpen(`${at.nginx.https}/plain/one.safetensors`),
        RemoteError,
        "the server redirects from https to",
      );
    } finally {
      Deno.env.delete("SSL_CERT_FILE");
    }
  });

  Deno.test("HTTP/2 brings the same bytes", async () => {
    await using at = await serve();
    using client = Deno.createHttpClient({
      caCerts: [await Deno.readTextFile(at.certificates.authority)],
      http1: false,
      http2: true,
    });
    const host = new TestHost();
    host.fetch = (url, init) => {
      const options: RequestInit & { client: Deno.HttpClient } = { ...init, client };
      return fetch(url, options);
    };
    const url = `${at.nginx.https}/m/one.safetensors`;
    const limits = { retries: 0, timeoutSeconds: 30 };
    const context = { client: new HttpClient(host), limits, signal: new AbortController().signal };
    const file = await HttpFile.open(context, {
      path: url,
      locate: () => Promise.resolve({ url, headers: {} }),
    });
    const whole = new Uint8Array(file.size);
    const half = file.size >> 1;
    await Promise.all([file.read(0, whole.subarray(0, half)), file.read(half, whole.subarray(half))]);
    assertBytes(whole, ONE.bytes, "the file");
    await file.close();
    assert((await at.nginx.requests()).every((line) => line.includes(" HTTP/2.0 ")));
  });
});
