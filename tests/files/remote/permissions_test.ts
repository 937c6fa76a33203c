/**
 * Permissions and commands for files on servers.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { runCliWith, runLineOnTerminal, whyNot } from "../../cli/support.ts";
import { runChild } from "../../support/child.ts";
import { FaultyServer } from "../../support/faulty_server.ts";
import { HubServer, TOKEN } from "../../support/hub_server.ts";
import { fileOf, tempFolder } from "../../support/models.ts";
import { S3Server } from "../../support/s3_server.ts";
import { suite } from "../../support/skip.ts";

const { bytes: BYTES } = fileOf([{ name: "x", dtype: "F32", shape: [70_000] }]);
const ENV = { PATH: Deno.env.get("PATH")!, HOME: Deno.env.get("HOME")!, NO_COLOR: "1" };
const LOAD = new URL("../../children/load.ts", import.meta.url).pathname;

Deno.test("without --allow-net for the host nothing is sent, and the error names the flag", async () => {
  await using server = new FaultyServer({ "/x": BYTES });
  const { code, stderr } = await runChild("load.ts", {
    flags: ["--allow-read", "--allow-net=localhost"],
    args: [server.url("/x?token=secret")],
    env: ENV,
  });
  assertEquals([code, server.requests.length], [1, 0]);
  assertStringIncludes(
    stderr,
    `NotCapable: Cannot open "http://${server.host}/x?token=…": no permission to connect`,
  );
  assertStringIncludes(stderr, `run again with --allow-net=${server.host}`);
  assertEquals(stderr.includes("secret"), false);
});

Deno.test("--allow-net for the host is enough; a redirect needs it for the other host too", async () => {
  await using other = new FaultyServer({ "/y": BYTES });
  const location = other.url("/y?signature=secret", "localhost");
  await using server = new FaultyServer({ "/x": BYTES }, ({ target }) => {
    return target === "/moved" ? { status: 302, headers: { location } } : null;
  });
  const load = (url: string, allowed: string) =>
    runChild("load.ts", { flags: ["--allow-read", `--allow-net=${allowed}`], args: [url], env: ENV });
  const loaded = await load(server.url("/x"), server.host);
  assertEquals([loaded.code, JSON.parse(loaded.stdout).path], [0, "http"], loaded.stderr);
  const refused = await load(server.url("/moved"), server.host);
  assertEquals([refused.code, other.requests.length], [1, 0]);
  assertStringIncludes(refused.stderr, `run again with --allow-net=${new URL(location).host}`);
  assertEquals(refused.stderr.includes("secret"), false);
  const followed = await load(server.url("/moved"), `${server.host},${new URL(location).host}`);
  assertEquals(followed.code, 0, followed.stderr);
});

suite("Permissions for servers on a terminal", "shells", whyNot("script"), () => {
  Deno.test("a permission to connect is never asked for", async () => {
    await using server = new FaultyServer({ "/x": BYTES });
    for (const url of [server.url("/x"), "hf://org/name", "s3://bucket/x.safetensors"]) {
      const words = ["run", "--no-check", "--quiet", "--allow-read", LOAD, url];
      const got = await runLineOnTerminal({}, ["timeout", "60", Deno.execPath(), ...words]);
      assertEquals(/Deno requests|Allow\?/.test(got), false, got);
      assertStringIncludes(got, "--allow-net=");
    }
  });
});

Deno.test("the commands load, inspect and verify take URLs", async () => {
  await using server = new FaultyServer({ "/x.safetensors": BYTES });
  const url = server.url("/x.safetensors?signature=secret");
  const [inspected, loaded, verified] = await Promise.all(
    ["inspect", "load", "verify"].map((command) => runCliWith(ENV, command, url, "--json")),
  );
  assertEquals(
    [inspected!.code, loaded!.code, verified!.code],
    [0, 0, 0],
    inspected!.stderr + loaded!.stderr + verified!.stderr,
  );
  const { files } = JSON.parse(inspected!.stdout);
  assertEquals(files[0].path, server.url("/x.safetensors?signature=…"));
  assertEquals(files[0].tensors, [{ name: "x", dtype: "F32", shape: [70_000], bytes: 280_000 }]);
  assertEquals(JSON.parse(loaded!.stdout).path, "http");
  assertEquals(JSON.parse(verified!.stdout).ok, true);
  for (const { stdout, stderr } of [inspected!, loaded!, verified!]) {
    assertEquals((stdout + stderr).includes("secret"), false);
  }
});

Deno.test("the command convert takes a URL and writes to the working folder", async () => {
  const checkpoint = await Deno.readFile(new URL("../../data/checkpoints/module.pt", import.meta.url));
  await using server = new FaultyServer({ "/m/module.pt": checkpoint });
  await using folder = await tempFolder();
  const output = `${folder.path}/out.safetensors`;
  const { code, stderr } = await runCliWith(
    ENV,
    "convert",
    "-i",
    server.url("/m/module.pt"),
    "-o",
    output,
    "--validate",
  );
  assertEquals(code, 0, stderr);
  assert((await Deno.stat(output)).size > 0);
});

Deno.test("the commands find the Hub and its token, and keys for S3, by variables", async () => {
  const commit = "c".repeat(40);
  await using home = await tempFolder();
  await using hub = new HubServer({
    id: "org/name",
    revisions: { main: commit },
    commits: { [commit]: { "model.safetensors": BYTES } },
    access: "private",
  });
  const hubEnv = { ...ENV, HF_ENDPOINT: hub.endpoint, HF_HOME: home.path };
  const refused = await runCliWith({ ...hubEnv, HF_TOKEN: "" }, "inspect", "hf://org/name");
  assertEquals([refused.code, refused.stdout], [1, ""]);
  assertStringIncludes(refused.stderr, "it is private: check the name; for a private one set HF_TOKEN");
  await Deno.writeTextFile(`${home.path}/token`, `${TOKEN}\n`);
  for (const args of [["inspect", "hf://org/name"], ["verify", "hf://org/name@main/model.safetensors"]]) {
    const { code, stdout, stderr } = await runCliWith({ ...hubEnv, HF_TOKEN: "" }, ...args);
    assertEquals(code, 0, stderr);
    assertEquals((stdout + stderr).includes(TOKEN), false);
  }
  await using s3 = new S3Server(
    { models: { region: "us-east-1", objects: { "m/model.safetensors": BYTES } } },
    { ID: { secretAccessKey: "key" } },
  );
  const s3Env = { AWS_ENDPOINT_URL: s3.endpoint, AWS_ACCESS_KEY_ID: "ID", AWS_SECRET_ACCESS_KEY: "key" };
  const { code, stdout, stderr } = await runCliWith({ ...ENV, ...s3Env }, "inspect", "s3://models/m/");
  assertEquals(code, 0, stderr);
  assertStringIncludes(stdout, "1 tensor of 280 kB in 1 file");
});
