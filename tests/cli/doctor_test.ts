import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { setEnv } from "../support/environment.ts";
import { tempFolder } from "../support/models.ts";
import { runCli, runCliWith } from "./support.ts";

Deno.test("doctor prints its report", async () => {
  const { code, stdout } = await runCli("doctor");
  assertEquals(code, 0);
  assertMatch(
    stdout,
    /^System +\S+ \S+, \d+ cores?(, kernel \S+)?\nDeno +\d+\.\d+\.\d+\nEngine +(native|portable): /,
  );
});

Deno.test("doctor --json prints the report", async () => {
  const { code, stdout } = await runCli("doctor", "--json");
  assertEquals(code, 0);
  const report = JSON.parse(stdout);
  assertEquals([report.deno, report.system], [Deno.version.deno, `${Deno.build.os} ${Deno.build.arch}`]);
  assertEquals(Array.isArray(report.remedies), true);
});

Deno.test("doctor reports how files in a place can be read", async () => {
  await using folder = await tempFolder();
  await Deno.writeTextFile(`${folder.path}/x`, "x");
  await Deno.mkdir(`${folder.path}/empty`);
  const { code, stdout } = await runCli(
    "doctor",
    folder.path,
    `${folder.path}/x`,
    `${folder.path}/empty`,
    "--json",
  );
  assertEquals(code, 0);
  const { storage, engine } = JSON.parse(stdout);
  const [whole, file, empty] = storage;
  assertEquals([whole.path, file.path, empty.path], [
    folder.path,
    `${folder.path}/x`,
    `${folder.path}/empty`,
  ]);
  assertEquals([empty.direct, empty.fileSystem], [null, whole.fileSystem]);
  // For any file system: doctor tries a folder with its file.
  assertEquals([whole.direct, typeof file.direct], [file.direct, engine === "native" ? "boolean" : "object"]);
  const { stdout: text } = await runCli("doctor", folder.path);
  assertStringIncludes(text, `\n${folder.path}  ${whole.fileSystem ?? "unknown file system"}, `);
});

Deno.test("doctor names the searched places of the 3FS library", async () => {
  const env = { NO_COLOR: "1", HF3FS_LIB_DIR: "/nowhere/3fs" };
  const { code, stdout } = await runCliWith(env, "doctor", "--json");
  assertEquals(code, 0);
  const { usrbio, engine } = JSON.parse(stdout);
  assertEquals(usrbio.library, null);
  const expected = engine === "native" ? 'looked in "/nowhere/3fs"' : "the native library is not used";
  assertEquals(usrbio.reason.slice(0, expected.length), expected);
  const { stdout: text } = await runCliWith(env, "doctor");
  assertStringIncludes(text.replaceAll(/ +/g, " "), `\n3FS no library: ${expected}`);
});

Deno.test("doctor says shortly that 3FS is absent, and gives each reason once", async () => {
  const env = { NO_COLOR: "1", HF3FS_LIB_DIR: "" };
  const { usrbio, cuda, webgpu, engine } = JSON.parse((await runCliWith(env, "doctor", "--json")).stdout);
  const { stdout } = await runCliWith(env, "doctor");
  if (engine === "native" && usrbio.library === null && usrbio.mounts.length === 0) {
    assertMatch(stdout, /\n3FS +no library \(HF3FS_LIB_DIR names its folder\)\n/);
  }
  for (const { reason } of [cuda, webgpu]) {
    if (reason !== "") assertEquals(stdout.split(reason).length, 2, stdout);
  }
});

Deno.test("doctor gives advice for a machine without a compiler", async () => {
  await using cache = await tempFolder();
  using _ = setEnv({ PATH: "/nowhere", XDG_CACHE_HOME: cache.path });
  const { code, stdout } = await runCli("doctor");
  assertEquals(code, 0);
  assertStringIncludes(stdout, "portable");
  assertStringIncludes(stdout, "- Install a C compiler");
  assertMatch(stdout, /\nAvailable memory +\d\S* [kMGT]B\n/);
});

Deno.test("doctor reports on every place, and fails if it cannot examine one", async () => {
  await using folder = await tempFolder();
  await Deno.writeTextFile(`${folder.path}/x`, "x");
  const fifo = `${folder.path}/fifo`, missing = `${folder.path}/missing`;
  await new Deno.Command("mkfifo", { args: [fifo] }).output();
  const { code, stdout, stderr } = await runCli("doctor", `${folder.path}/x`, missing, fifo, "--json");
  assertEquals(code, 1);
  const { storage } = JSON.parse(stdout);
  assertEquals(storage.map(({ problem }: { problem: string }) => problem), [
    "",
    "no such file or folder",
    "neither a file nor a folder",
  ]);
  assertStringIncludes(stderr, `error: Cannot look at "${missing}": no such file or folder\n`);
});
