/**
 * Models on the Hub, against a stand-in of it.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { RemoteError, SafeTensorsError } from "@x/fastsafetensors";
import { HttpSource } from "../../../src/files/http/http_source.ts";
import { formatHubName, parseHubName } from "../../../src/files/hub/hub_name.ts";
import { HubNames } from "../../../src/files/hub/hub_names.ts";
import { type HubSettings, hubSettings } from "../../../src/files/hub/hub_settings.ts";
import { SAFETENSORS } from "../../../src/files/model_folder.ts";
import { HubServer, type ServedRepo, sha256, TOKEN, WEAK_TOKEN } from "../../support/hub_server.ts";
import { assertBytes, fileOf } from "../../support/models.ts";
import { testContext, TestHost } from "../../support/test_host.ts";

const A = "a".repeat(40), B = "b".repeat(40);

/** A file with a tensor. */
function shard(name: string, rows = 1000): Uint8Array<ArrayBuffer> {
  return fileOf([{ name, dtype: "F32", shape: [rows] }]).bytes;
}

const INDEX = new TextEncoder().encode(JSON.stringify({
  metadata: {},
  weight_map: { a: "model-00001-of-00002.safetensors", b: "model-00002-of-00002.safetensors" },
}));

/** A model in two shards, of two commits. */
function model(): ServedRepo {
  const files = {
    "model-00001-of-00002.safetensors": shard("a"),
    "model-00002-of-00002.safetensors": shard("b"),
    "model.safetensors.index.json": INDEX,
    "onnx/model.safetensors": shard("o", 3),
    "README.md": new TextEncoder().encode("# A model"),
  };
  return {
    id: "org/name",
    revisions: { main: A, "v1/x": B, "refs/pr/1": B },
    commits: { [A]: files, [B]: files },
  };
}

interface Setting extends Partial<HubSettings> {
  readonly repo?: Partial<ServedRepo>;
}

/** Names and files of a new stand-in. */
function hub({ repo, ...given }: Setting = {}) {
  const server = new HubServer({ ...model(), ...repo });
  const host = new TestHost();
  const context = testContext(host);
  const settings = {
    endpoint: server.endpoint,
    token: null,
    offline: false,
    downloadSeconds: undefined,
    listSeconds: undefined,
    ...given,
  };
  const source = new HttpSource(context, (path) => names.nameOf(path));
  const names: HubNames = new HubNames(context, (path) => source.open(path), settings);
  return {
    server,
    host,
    names,
    source,
    resolve: (name: string) => names.resolve(name, SAFETENSORS),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

Deno.test("names of models on the Hub are parsed, with their revision and path", () => {
  const cases: [name: string, kind: string, id: string, revision: string, path: string][] = [
    ["hf://org/name", "models", "org/name", "main", ""],
    ["hf://models/org/name/", "models", "org/name", "main", ""],
    ["hf://org/name@v1.0/a/b.safetensors", "models", "org/name", "v1.0", "a/b.safetensors"],
    ["hf://org/name@feature%2Fx/a", "models", "org/name", "feature/x", "a"],
    ["hf://org/name@refs/pr/12/a", "models", "org/name", "refs/pr/12", "a"],
    ["hf://datasets/org/name@refs/convert/parquet", "datasets", "org/name", "refs/convert/parquet", ""],
    ["HF://spaces/org/na.me/x@y", "spaces", "org/na.me", "main", "x@y"],
  ];
  for (const [name, kind, id, revision, path] of cases) {
    assertEquals(parseHubName(name), { repo: { kind, id }, revision, path } as unknown, name);
  }
  assertEquals(
    formatHubName({ repo: { kind: "datasets", id: "o/n" }, revision: "a/b", path: "c/d" }),
    "hf://datasets/o/n@a%2Fb/c/d",
  );
  assertEquals(
    formatHubName({ repo: { kind: "models", id: "o/n" }, revision: "refs/pr/1", path: "" }),
    "hf://o/n@refs/pr/1",
  );
});

Deno.test("names that are not of this form are errors with the form", () => {
  const cases: [name: string, message: string][] = [
    ["hf://gpt2", "a model has two names, hf://org/name: old names of one word need their owner"],
    ["hf://", "the form is hf://org/name"],
    ["hf://buckets/org/name", "buckets of the Hub cannot be opened"],
    ["hf://org/na me", '"na me" is not a name on the Hub'],
    ["hf://org/..", '".." is not a name on the Hub'],
    ["hf://org/name/a/../b", '"a/../b" is not a path in a model'],
    ["hf://org/name@%2e%2e", '".." is not a revision'],
    ["hf://org/name@%zz", '"%zz" is not a revision'],
    ["hf://org/name@/a", '"" is not a revision'],
  ];
  for (const [name, message] of cases) assertThrows(() => parseHubName(name), TypeError, message);
});

Deno.test("a model needs three requests of the Hub and one of each file, all of one commit", async () => {
  await using at = hub();
  const { names, server, source, resolve } = at;
  const found = await resolve("hf://org/name");
  const path = (name: string) => `hf://org/name@${A}/${name}`;
  assertEquals(found.paths, [
    path("model-00001-of-00002.safetensors"),
    path("model-00002-of-00002.safetensors"),
  ]);
  assertEquals(found.index?.weightMap.get("b"), path("model-00002-of-00002.safetensors"));
  assertEquals(server.api.requests.map(({ target }) => target), [
    "/api/models/org/name/revision/main",
    `/api/models/org/name/tree/${A}?recursive=true&expand=false`,
    `/org/name/resolve/${A}/model.safetensors.index.json`,
    `/api/resolve-cache/${A}/org%2Fname%2Fmodel.safetensors.index.json`,
  ]);
  server.repos[0]!.revisions["main"] = B; // a commit of the branch in the meantime
  const before = server.api.requests.length;
  const file = await source.open(found.paths[0]!);
  const bytes = new Uint8Array(file.size);
  await file.read(0, bytes);
  assertBytes(bytes, shard("a"), "a shard");
  assertEquals([file.sha256, file.etag, file.size], [sha256(shard("a")), null, shard("a").length]);
  assertEquals(names.nameOf(found.paths[0]!).hub?.commit, A);
  assertEquals(names.nameOf(found.paths[0]!).hub?.blob, sha256(shard("a")));
  await file.close();
  assertEquals([server.api.requests.length - before, server.cdn.requests.length], [1, 1]);
});

Deno.test("a revision, a folder and a file of it are opened", async () => {
  await using at = hub();
  const { resolve } = at;
  for (
    const [name, paths] of [
      ["hf://org/name@v1%2Fx/onnx", [`hf://org/name@${B}/onnx/model.safetensors`]],
      [`hf://org/name@${A}/onnx/model.safetensors`, [`hf://org/name@${A}/onnx/model.safetensors`]],
      ["hf://org/name@refs/pr/1/model-00002-of-00002.safetensors", [
        `hf://org/name@${B}/model-00002-of-00002.safetensors`,
      ]],
    ] as const
  ) {
    assertEquals((await resolve(name)).paths, paths);
  }
});

Deno.test("the token goes to the Hub and not to the host of the files", async () => {
  await using at = hub({ token: TOKEN, repo: { access: "private" } });
  const { server, source, resolve } = at;
  const { paths } = await resolve("hf://org/name");
  await (await source.open(paths[0]!)).close();
  assertEquals(
    new Set(server.api.requests.map(({ headers }) => headers.get("authorization"))),
    new Set([`Bearer ${TOKEN}`]),
  );
  assertEquals(server.cdn.requests.map(({ headers }) => headers.get("authorization")), [undefined]);
});

Deno.test("an address that has expired is resolved anew during a load", async () => {
  await using at = hub();
  const { server, source, resolve } = at;
  const big = fileOf([{ name: "x", dtype: "U8", shape: [2 ** 20] }]).bytes;
  server.repos[0]!.commits[A]!["big.safetensors"] = big;
  const { paths } = await resolve("hf://org/name/big.safetensors");
  const file = await source.open(paths[0]!);
  server.generation = 2;
  const bytes = new Uint8Array(1000);
  await file.read(500_000, bytes);
  assertBytes(bytes, big.subarray(500_000, 501_000), "a range");
  await file.close();
});

Deno.test("all pages of a list of files are read, and none from another host", async () => {
  await using at = hub();
  const { server, resolve } = at;
  server.pageEntries = 1;
  assertEquals((await resolve("hf://org/name/onnx")).paths.length, 1);
  assert(server.api.requests.length >= 6, `${server.api.requests.length}`);
  server.change = ({ target }, usual) => {
    if (!target.includes("/tree/")) return usual;
    return { ...usual, headers: { ...usual.headers, link: '<https://127.0.0.1:9/x>; rel="next"' } };
  };
  await assertRejects(
    () => resolve("hf://org/name"),
    RemoteError,
    "a list of files that another host continues",
  );
  server.pageEntries = 1000; // a link that is not valid ends the list
  server.change = (_, usual) => ({ ...usual, headers: { ...usual.headers, link: "<".repeat(200_000) } });
  assertEquals((await resolve("hf://org/name/onnx")).paths.length, 1);
});

/** Refusals: who asks for what, and what the error says. */
const REFUSALS: [
  access: ServedRepo["access"],
  token: string | null,
  name: string,
  code: string,
  message: string,
][] = [
  [
    "gated",
    null,
    "hf://org/name",
    "Gated",
    'the model "org/name" is gated: accept its conditions at ENDPOINT/org/name, and set HF_TOKEN',
  ],
  [
    "gated",
    WEAK_TOKEN,
    "hf://org/name",
    "Gated",
    "is gated, and the account of the token has no access: accept its conditions",
  ],
  [
    "private",
    null,
    "hf://org/name",
    "NotFound",
    "does not exist, or it is private: check the name; for a private one set HF_TOKEN",
  ],
  ["private", WEAK_TOKEN, "hf://org/name", "AccessDenied", "the token gives no access to the model"],
  ["public", null, "hf://org/other", "NotFound", 'the model "org/other" does not exist, or it is private'],
  [
    "public",
    TOKEN,
    "hf://org/other",
    "NotFound",
    "does not exist, or it is private and the token gives no access",
  ],
  [
    "public",
    "hf_wrong",
    "hf://org/name",
    "AccessDenied",
    "the Hub refuses the token, it is wrong or has expired",
  ],
  ["public", null, "hf://org/name@v9", "NotFound", 'the model "org/name" has no revision "v9"'],
  ["public", null, "hf://org/name/onxx", "NotFound", `there is no file or folder "onxx" at commit ${A}`],
  ["public", null, "hf://datasets/org/name", "NotFound", 'the dataset "org/name" does not exist'],
  ["disabled", TOKEN, "hf://org/name", "AccessDenied", 'the Hub has disabled the model "org/name"'],
];

for (const [access, token, name, code, message] of REFUSALS) {
  const who = token === null
    ? "no token"
    : token === TOKEN
    ? "a good token"
    : token === WEAK_TOKEN
    ? "a weak token"
    : "a wrong token";
  Deno.test(`opening ${name} with ${who} says what the Hub refused: ${code}, ${access}`, async () => {
    await using at = hub({ token, repo: { access: access! } });
    const expected = message.replace("ENDPOINT", at.server.endpoint);
    const error = await assertRejects(() => at.resolve(name), RemoteError, expected);
    assertEquals([error.code, error.errno], [code, code === "NotFound" ? 2 : 0]);
    if (token !== null) assertEquals(Deno.inspect(error).includes(token), false);
  });
}

Deno.test("a folder of the Hub without a model lists the folders that have one", async () => {
  await using at = hub({
    repo: { commits: { [A]: { "onnx/model.safetensors": shard("o"), "x.gguf": shard("g") } } },
  });
  const error = await assertRejects(() => at.resolve("hf://org/name"), SafeTensorsError);
  assertEquals(error.code, "NoTensorFiles");
  assert(error.message.includes('the folder "onnx" in it has some: open it'), error.message);
});

Deno.test("a file that has another size than the list says is an error", async () => {
  await using at = hub();
  const { server, source, resolve } = at;
  const { paths } = await resolve("hf://org/name");
  server.repos[0]!.commits[A]!["model-00001-of-00002.safetensors"] = shard("a", 999);
  await assertRejects(
    () => source.open(paths[0]!),
    RemoteError,
    `${shard("a").length} bytes expected by the list of files`,
  );
});

Deno.test("answers of the Hub that are not what they should be are errors", async () => {
  await using at = hub();
  const { server, resolve } = at;
  for (
    const [body, message] of [
      ["<html>", "the Hub answered with no commit of revision"],
      ['{"sha": "main"}', "the Hub answered with no commit of revision"],
    ] as const
  ) {
    server.change = () => ({ body: new TextEncoder().encode(body) });
    await assertRejects(() => resolve("hf://org/name"), RemoteError, message);
  }
  for (
    const entry of [{ type: "file", path: "../x", size: 1, oid: "a" }, {
      type: "file",
      path: "x",
      size: -1,
      oid: "a",
    }, 7]
  ) {
    server.change = ({ target }, usual) => {
      return target.includes("/tree/") ? { body: new TextEncoder().encode(JSON.stringify([entry])) } : usual;
    };
    await assertRejects(() => resolve("hf://org/name"), RemoteError, "with an entry that is not a file");
  }
});

Deno.test("a mirror's answers that name the Hub are sent to the mirror", async () => {
  await using at = hub();
  const { server, source, resolve } = at;
  server.change = ({ target }, usual) => {
    const location = usual.headers?.["location"];
    if (!target.includes("/resolve/") || !location?.startsWith("/")) return usual;
    return { ...usual, headers: { ...usual.headers, location: `https://huggingface.co${location}` } };
  };
  const { paths } = await resolve("hf://org/name/onnx/model.safetensors");
  await (await source.open(paths[0]!)).close();
});

Deno.test("offline, no request is sent", async () => {
  await using at = hub({ offline: true });
  const error = await assertRejects(
    () => at.resolve("hf://org/name"),
    RemoteError,
    "HF_HUB_OFFLINE forbids requests",
  );
  assertEquals([error.code, at.host.connections], ["Offline", []]);
});

/** Settings by variables and files. */
function settingsOf(variables: Record<string, string>, files: Record<string, string> = {}, options = {}) {
  const surroundings = {
    variable: (name: string) => variables[name] || undefined,
    readText: (path: string) => Promise.resolve(files[path] ?? null),
  };
  return hubSettings(options, surroundings);
}

Deno.test("the token is found as the Python package finds it", async () => {
  const files = {
    "/h/token": " file\n",
    "/x/huggingface/token": "xdg",
    "/u/.cache/huggingface/token": "home",
    "/t": "path",
  };
  const cases: [variables: Record<string, string>, options: Record<string, unknown>, token: string | null][] =
    [
      [{}, {}, null],
      [{ HF_TOKEN: " a ", HUGGING_FACE_HUB_TOKEN: "b", HF_HOME: "/h" }, {}, "a"],
      [{ HUGGING_FACE_HUB_TOKEN: "b", HF_HOME: "/h" }, {}, "b"],
      [{ HF_HOME: "/h", XDG_CACHE_HOME: "/x", HOME: "/u" }, {}, "file"],
      [{ XDG_CACHE_HOME: "/x", HOME: "/u" }, {}, "xdg"],
      [{ HOME: "/u" }, {}, "home"],
      [{ HOME: "/u", HF_TOKEN_PATH: "/t" }, {}, "path"],
      [{ HF_HOME: "~/../h", HOME: "/u", HF_TOKEN_PATH: "/none" }, {}, null],
      [{ HF_TOKEN: "a", HF_HUB_DISABLE_IMPLICIT_TOKEN: "1" }, {}, null],
      [{ HF_TOKEN: "a", HF_HUB_DISABLE_IMPLICIT_TOKEN: "1" }, { token: "c" }, "c"],
      [{ HF_TOKEN: "a" }, { token: false }, null],
      [{ HF_TOKEN: "a" }, { token: "c" }, "c"],
    ];
  for (const [variables, options, token] of cases) {
    assertEquals(
      (await settingsOf(variables, files, options)).token,
      token,
      JSON.stringify([variables, options]),
    );
  }
  await assertRejects(() => settingsOf({ HF_TOKEN: "two words" }), TypeError, "characters that no token has");
});

Deno.test("endpoint, offline and timeouts come from variables", async () => {
  const set = await settingsOf({
    HF_ENDPOINT: "https://mirror/hf/",
    TRANSFORMERS_OFFLINE: "YES",
    HF_HUB_DOWNLOAD_TIMEOUT: "7",
  });
  assertEquals([set.endpoint, set.offline, set.downloadSeconds, set.listSeconds], [
    "https://mirror/hf",
    true,
    7,
    undefined,
  ]);
  assertEquals((await settingsOf({ HF_HUB_OFFLINE: "0" })).offline, false);
  assertEquals((await settingsOf({})).endpoint, "https://huggingface.co");
  await assertRejects(() => settingsOf({ HF_ENDPOINT: "mirror" }), TypeError, "HF_ENDPOINT must be");
  await assertRejects(
    () => settingsOf({ HF_HUB_ETAG_TIMEOUT: "soon" }),
    TypeError,
    "HF_HUB_ETAG_TIMEOUT must be",
  );
});
