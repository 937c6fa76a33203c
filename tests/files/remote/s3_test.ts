/**
 * Objects in services of the S3 interface, against known signatures and a stand-in that checks them.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { RemoteError, SafeTensorsError } from "@x/fastsafetensors";
import { HttpSource } from "../../../src/files/http/http_source.ts";
import { SAFETENSORS } from "../../../src/files/model_folder.ts";
import type { S3Options } from "../../../src/files/network_options.ts";
import { parseList, parseS3Name, S3Names } from "../../../src/files/s3/s3_names.ts";
import { parseSections, s3Settings } from "../../../src/files/s3/s3_settings.ts";
import { encodePath, presign } from "../../../src/files/s3/signature.ts";
import { assertBytes, fileOf } from "../../support/models.ts";
import { S3Server, type ServedBucket, type ServedKey } from "../../support/s3_server.ts";
import { testContext, TestHost } from "../../support/test_host.ts";

Deno.test("a signature is that of the example in AWS' documentation", async () => {
  const credentials = {
    accessKeyId: "AKIAIOSFODNN7EXAMPLE",
    secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
  };
  const url = await presign(new URL("https://examplebucket.s3.amazonaws.com/test.txt"), {
    credentials,
    region: "us-east-1",
    now: new Date("2013-05-24T00:00:00Z"),
    expiresSeconds: 86400,
  });
  assertEquals(
    url.href,
    "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256" +
      "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z" +
      "&X-Amz-Expires=86400&X-Amz-SignedHeaders=host" +
      "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
  );
});

Deno.test("paths of objects are encoded as signatures need them", () => {
  assertEquals(encodePath("a b/c=d+e/ü~.-_/(x)'!*"), "a%20b/c%3Dd%2Be/%C3%BC~.-_/%28x%29%27%21%2A");
});

const KEYS: Record<string, ServedKey> = {
  ID: { secretAccessKey: "secret/key+1" },
  SESSION: { secretAccessKey: "other", sessionToken: "token/+=" },
};

/** A file with a tensor. */
function shard(name: string, rows = 1000): Uint8Array<ArrayBuffer> {
  return fileOf([{ name, dtype: "F32", shape: [rows] }]).bytes;
}

function bucket(more: Partial<ServedBucket> = {}): ServedBucket {
  const objects = {
    "m/a b=+(ü)'.safetensors": shard("a"),
    "m/deep/model.safetensors": shard("d"),
    "m-2/model.safetensors": shard("e"),
    "s/model-00001-of-00002.safetensors": shard("a"),
    "s/model-00002-of-00002.safetensors": shard("b"),
    "s/model.safetensors.index.json": new TextEncoder().encode(JSON.stringify({
      weight_map: { a: "model-00001-of-00002.safetensors", b: "model-00002-of-00002.safetensors" },
    })),
  };
  return { region: "us-east-1", objects, ...more };
}

/** Names and files of a new stand-in. */
async function s3(
  more: Partial<ServedBucket> = {},
  options: S3Options = {},
  variables: Record<string, string> = {},
) {
  const server = new S3Server({ models: bucket(more) }, KEYS);
  const host = new TestHost();
  const context = testContext(host);
  const all: Record<string, string> = {
    AWS_ACCESS_KEY_ID: "ID",
    AWS_SECRET_ACCESS_KEY: "secret/key+1",
    ...variables,
  };
  const surroundings = {
    variable: (name: string) => all[name] || undefined,
    readText: () => Promise.resolve(null),
  };
  const names = new S3Names(
    context,
    await s3Settings({ endpoint: server.endpoint, ...options }, surroundings),
  );
  return {
    server,
    host,
    source: new HttpSource(context, (path) => names.nameOf(path)),
    resolve: (name: string) => names.resolve(name, SAFETENSORS),
    targets: () => server.http.requests.map(({ target }) => target.replace(/\?.*/, "")),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

Deno.test("an object needs one signed request, whatever its key is", async () => {
  await using at = await s3();
  const { server, source, resolve } = at;
  const key = "m/a b=+(ü)'.safetensors";
  const { paths } = await resolve(`s3://models/${key}`);
  assertEquals(paths, [`s3://models/${key}`]);
  const file = await source.open(paths[0]!);
  const bytes = new Uint8Array(file.size);
  await file.read(0, bytes);
  assertBytes(bytes, shard("a"), "the object");
  await file.close();
  assertEquals(server.http.requests.length, 1);
});

Deno.test("a prefix is a folder: its model is chosen, and its pages are all read", async () => {
  await using at = await s3();
  const { server, resolve } = at;
  server.pageObjects = 1;
  assertEquals((await resolve("s3://models/m/deep/")).paths, ["s3://models/m/deep/model.safetensors"]);
  assertEquals((await resolve("s3://models/m-2")).paths, ["s3://models/m-2/model.safetensors"]);
  const found = await resolve("s3://models/s");
  assertEquals(found.paths, [
    "s3://models/s/model-00001-of-00002.safetensors",
    "s3://models/s/model-00002-of-00002.safetensors",
  ]);
  assertEquals(found.index?.path, "s3://models/s/model.safetensors.index.json");
  assertEquals((await resolve("s3://models/m")).paths, ["s3://models/m/a b=+(ü)'.safetensors"]);
  const error = await assertRejects(() => resolve("s3://models"), SafeTensorsError);
  assertEquals(error.code, "NoTensorFiles");
});

Deno.test("an index is opened with its shards", async () => {
  await using at = await s3();
  const { paths } = await at.resolve("s3://models/s/model.safetensors.index.json");
  assertEquals(paths, [
    "s3://models/s/model-00001-of-00002.safetensors",
    "s3://models/s/model-00002-of-00002.safetensors",
  ]);
});

Deno.test("a session's token is signed and sent", async () => {
  await using at = await s3({}, {}, {
    AWS_ACCESS_KEY_ID: "SESSION",
    AWS_SECRET_ACCESS_KEY: "other",
    AWS_SESSION_TOKEN: "token/+=",
  });
  await (await at.source.open("s3://models/m-2/model.safetensors")).close();
});

Deno.test("a wrong region is corrected once, and remembered", async () => {
  for (const region of ["eu-west-3", "ap-south-1"]) {
    await using at = await s3({ region });
    const { server, source, resolve } = at;
    await resolve("s3://models/m-2/");
    await (await source.open("s3://models/m-2/model.safetensors")).close();
    assertEquals(server.http.requests.length, 3);
  }
});

Deno.test("without keys, or by option, nothing is signed: public objects can be read", async () => {
  const none = { AWS_ACCESS_KEY_ID: "" };
  for (const [options, variables] of [[{ anonymous: true }, {}], [{}, none]] as const) {
    await using at = await s3({ isPublic: true }, options, variables);
    await (await at.source.open("s3://models/m-2/model.safetensors")).close();
    assert(!at.server.http.requests[0]!.target.includes("?"));
  }
  await using at = await s3({}, {}, none);
  const error = await assertRejects(
    () => at.resolve("s3://models/m-2/"),
    RemoteError,
    "without keys only public objects",
  );
  assertEquals([error.code, error.status], ["AccessDenied", 403]);
});

Deno.test("an expired signature is made anew in the middle of a load", async () => {
  const big = fileOf([{ name: "x", dtype: "U8", shape: [2 ** 20] }]).bytes;
  let calls = 0;
  await using at = await s3({ objects: { "big.safetensors": big } }, {
    credentials: () => {
      calls++;
      return { accessKeyId: "ID", secretAccessKey: "secret/key+1" };
    },
  });
  const { server, source } = at;
  const file = await source.open("s3://models/big.safetensors");
  const bytes = new Uint8Array(1000);
  server.validFrom = Date.now() + 3600_000; // the stand-in refuses this signature and the next one
  const error = await assertRejects(
    () => file.read(500_000, bytes),
    RemoteError,
    "the service refuses access",
  );
  assertEquals([error.status, calls], [403, 2]);
  server.validFrom = 0;
  await file.read(500_000, bytes);
  assertBytes(bytes, big.subarray(500_000, 501_000), "a range");
  await file.close();
});

/** Refusals of the service, and what the error says. */
const REFUSALS: [name: string, variables: Record<string, string>, code: string, message: string][] = [
  ["s3://other/x.safetensors", {}, "NotFound", 'there is no bucket "other": check its name and the endpoint'],
  ["s3://models/x.safetensors", {}, "NotFound", "there is no such object"],
  [
    "s3://models/x.safetensors",
    { AWS_SECRET_ACCESS_KEY: "wrong" },
    "AccessDenied",
    "refuses the keys (SignatureDoesNotMatch)",
  ],
  [
    "s3://models/x.safetensors",
    { AWS_ACCESS_KEY_ID: "wrong" },
    "AccessDenied",
    "refuses the keys (InvalidAccessKeyId)",
  ],
  [
    "s3://models/x.safetensors",
    { AWS_SESSION_TOKEN: "old" },
    "AccessDenied",
    "the session has expired (InvalidToken)",
  ],
];

for (const [name, variables, code, message] of REFUSALS) {
  Deno.test(`opening ${name} with ${JSON.stringify(variables)} is an error: ${message}`, async () => {
    await using at = await s3({}, {}, variables);
    const error = await assertRejects(() => at.source.open(name), RemoteError, message);
    assertEquals([error.code, /secret|X-Amz/.test(Deno.inspect(error))], [code, false]);
  });
}

Deno.test("503 SlowDown is asked again", async () => {
  await using at = await s3();
  let refused = false;
  const { http } = at.server;
  const usual = http.fault;
  http.fault = (request, reply) => {
    if (refused) return usual(request, reply);
    refused = true;
    return { status: 503, body: new TextEncoder().encode("<Error><Code>SlowDown</Code></Error>") };
  };
  assertEquals((await at.resolve("s3://models/m-2/")).paths.length, 1);
  assertEquals(at.host.pauses.length, 1);
});

Deno.test("names of buckets and keys that no URL can request are refused", () => {
  assertEquals(parseS3Name("s3://my.bucket/a//b"), { bucket: "my.bucket", key: "a//b" });
  assertThrows(() => parseS3Name("s3:///x"), TypeError, "is not the name of a bucket");
  assertThrows(() => parseS3Name("s3://b@d/x"), TypeError, "is not the name of a bucket");
  assertThrows(() => parseS3Name("s3://bucket/a/../b"), TypeError, 'a key with "." or ".."');
});

Deno.test("lists of objects that are not valid are refused", () => {
  assertEquals(parseList("<html>"), null);
  assertEquals(parseList(`<ListBucketResult>${"<Contents>".repeat(1_000_000)}`), null);
  assertEquals(parseList("<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>"), null);
  assertEquals(parseList("<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"), null);
  assertEquals(
    parseList(
      "<ListBucketResult><Contents><Key>a&amp;&#98;</Key><Size>3</Size></Contents></ListBucketResult>",
    ),
    { objects: [{ key: "a&b", size: 3 }], next: undefined },
  );
});

const CONFIG = `
[default]
region = eu-central-1
[profile work]
region=eu-west-1 # a comment
services = mine
aws_access_key_id = CONFIG
aws_secret_access_key = c
[profile sso]
sso_session = x
[services mine]
s3 =
  endpoint_url = https://minio.example/base/
dynamodb =
  endpoint_url = https://other.example
`;
const CREDENTIALS = "[default]\naws_access_key_id=KEY\naws_secret_access_key=k=/+\naws_session_token = t\n" +
  "[work]\naws_access_key_id=WORK\naws_secret_access_key=w\n";

/** Settings by variables and AWS' files. */
function settingsOf(variables: Record<string, string>, options: S3Options = {}) {
  const files: Record<string, string> = { "/u/.aws/config": CONFIG, "/u/.aws/credentials": CREDENTIALS };
  const all: Record<string, string> = { HOME: "/u", ...variables };
  return s3Settings(options, {
    variable: (name) => all[name] || undefined,
    readText: (path) => Promise.resolve(files[path] ?? null),
  });
}

Deno.test("keys, region and endpoint come from options, variables and profiles, in this order", async () => {
  const plain = await settingsOf({});
  assertEquals([plain.endpoint, plain.region], [null, "eu-central-1"]);
  assertEquals(await plain.credentials(), { accessKeyId: "KEY", secretAccessKey: "k=/+", sessionToken: "t" });
  const work = await settingsOf({ AWS_PROFILE: "work" });
  assertEquals([work.endpoint, work.region], ["https://minio.example/base", "eu-west-1"]);
  assertEquals(await work.credentials(), { accessKeyId: "WORK", secretAccessKey: "w" });
  const set = await settingsOf({
    AWS_PROFILE: "work",
    AWS_ACCESS_KEY_ID: "ENV",
    AWS_SECRET_ACCESS_KEY: "e",
    AWS_DEFAULT_REGION: "us-west-2",
    AWS_ENDPOINT_URL: "https://all.example",
  });
  assertEquals([set.endpoint, set.region], ["https://all.example", "us-west-2"]);
  assertEquals(await set.credentials(), { accessKeyId: "ENV", secretAccessKey: "e" });
  const s3 = await settingsOf({
    AWS_ENDPOINT_URL: "https://all.example",
    AWS_ENDPOINT_URL_S3: "https://s3.example",
  });
  assertEquals(s3.endpoint, "https://s3.example");
  const ignoring = await settingsOf({
    AWS_IGNORE_CONFIGURED_ENDPOINT_URLS: "true",
    AWS_ENDPOINT_URL: "https://all.example",
  });
  assertEquals(ignoring.endpoint, null);
  const chosen = await settingsOf(
    { AWS_ACCESS_KEY_ID: "ENV", AWS_SECRET_ACCESS_KEY: "e", AWS_REGION: "r" },
    { profile: "work", region: "auto", endpoint: "https://r2.example" },
  );
  assertEquals([chosen.endpoint, chosen.region], ["https://r2.example", "auto"]);
  assertEquals(await chosen.credentials(), { accessKeyId: "WORK", secretAccessKey: "w" });
  assertEquals(await (await settingsOf({}, { anonymous: true })).credentials(), null);
});

Deno.test("a profile that does not exist, or gets its keys by another program, is an error with the remedy", async () => {
  await assertRejects(() => settingsOf({ AWS_PROFILE: "none" }), TypeError, 'AWS has no profile "none"');
  const sso = await settingsOf({ AWS_PROFILE: "sso" });
  await assertRejects(
    () => sso.credentials(),
    TypeError,
    "gets its keys by sso_session: pass them by the option",
  );
});

Deno.test("files of AWS are parsed with comments, nested keys and Windows' line ends", () => {
  const sections = parseSections("; c\r\n[a]\r\nx = 1\r\ns3 =\r\n  y = 2\r\nz=3\r\n");
  assertEquals(Object.fromEntries(sections.get("a")!), { x: "1", s3: "", "s3.y": "2", z: "3" });
});
