/**
 * A service of the S3 interface that others have written, which checks signatures: s3rver, of npm.
 */
import { assertEquals, assertRejects } from "@std/assert";
import { fastsafeOpen, RemoteError } from "@x/fastsafetensors";
import { assertBytes, fileOf, tempFolder } from "../../support/models.ts";
import { whyNotNpm } from "../../support/npm.ts";
import "../../support/open_library.ts";
import { suite } from "../../support/skip.ts";

const PACKAGE = "npm:@20minutes/s3rver@5.0.0";

const PROGRAM = `import cli from "${PACKAGE}/lib/cli.js";
const [folder, port] = Deno.args;
await cli.parseAsync(["node", "s3rver", "-d", folder, "-a", "127.0.0.1", "-p", port, "--configure-bucket", "models"]);
`;

/** A running server; its key and secret are S3RVER. */
async function start(folder: string) {
  await Deno.mkdir(`${folder}/data`);
  await Deno.writeTextFile(`${folder}/server.ts`, PROGRAM);
  for (let attempt = 0;; attempt++) {
    const port = freePort();
    const process = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-config", "--quiet", `${folder}/server.ts`, `${folder}/data`, String(port)],
      stdout: "null",
      stderr: "null",
    }).spawn();
    let hasEnded = false;
    process.status.then(() => hasEnded = true);
    const url = `http://127.0.0.1:${port}`;
    while (!hasEnded) {
      const answer = await fetch(`${url}/models?list-type=2`).catch(() => null);
      await answer?.body?.cancel();
      if (answer?.ok) {
        return {
          url,
          async [Symbol.asyncDispose]() {
            process.kill();
            await process.status;
          },
        };
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    if (attempt === 3) throw new Error("Cannot start s3rver");
  }
}

function freePort(): number {
  using listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  return (listener.addr as Deno.NetAddr).port;
}

suite("s3rver", "npm", await whyNotNpm(PACKAGE), () => {
  Deno.test("s3rver accepts the signatures of objects and lists, whatever their keys are", async () => {
    await using folder = await tempFolder();
    await using server = await start(folder.path);
    const { bytes, tensors } = fileOf([{ name: "x", dtype: "F32", shape: [200_000] }]);
    const key = "m/a b=+(ü).safetensors"; // s3rver encodes an apostrophe twice in its lists
    const path = key.split("/").map(encodeURIComponent).join("/");
    await (await fetch(`${server.url}/models/${path}`, { method: "PUT", body: bytes })).body?.cancel();
    const open = (secretAccessKey: string, name: string) =>
      fastsafeOpen(name, {
        network: {
          s3: { endpoint: server.url, credentials: () => ({ accessKeyId: "S3RVER", secretAccessKey }) },
        },
      });
    for (const name of [`s3://models/${key}`, "s3://models/m/", "s3://models/m"]) {
      await using model = await open("S3RVER", name);
      assertBytes((await model.getTensor("x")).bytes, tensors[0]!.bytes, name);
      assertEquals(model.files(), [`s3://models/${key}`]);
    }
    for (const name of [`s3://models/${key}`, "s3://models/m/"]) {
      const error = await assertRejects(
        () => open("wrong", name),
        RemoteError,
        "refuses the keys (SignatureDoesNotMatch)",
      );
      assertEquals(error.status, 403);
    }
    const error = await assertRejects(() => open("S3RVER", "s3://models/none.safetensors"), RemoteError);
    assertEquals(error.code, "NotFound");
  });
});
