import { assertEquals, assertStringIncludes } from "@std/assert";
import { fileOf, tempFolder, type Written } from "../support/models.ts";
import { exists, suite } from "../support/skip.ts";
import { MAIN, runCli, runLineOnTerminal, runOnTerminal, startCli, whyNot } from "./support.ts";

const TEMPORARY = (letter: string) => `.fastsafetensors-${letter.repeat(12)}.tmp`;

const JOURNAL = ".fastsafetensors-commit.json"; // the name in version 0.1

const OLD = fileOf([{ name: "x", dtype: "U8", shape: [1], bytes: new Uint8Array([1]) } as Written]).bytes;
const NEW = fileOf([{ name: "x", dtype: "U8", shape: [1], bytes: new Uint8Array([2]) } as Written]).bytes;

const SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] as const;

/** A single old file, and a save of two shards over it that was killed before its first rename. */
async function interrupt(folder: string): Promise<void> {
  await Deno.writeFile(`${folder}/model.safetensors`, OLD);
  for (const letter of ["a", "b"]) await Deno.writeFile(`${folder}/${TEMPORARY(letter)}`, NEW);
  const journal = {
    hide: [["model.safetensors", TEMPORARY("c")]],
    place: [[TEMPORARY("a"), SHARDS[0]], [TEMPORARY("b"), SHARDS[1]]],
  };
  await Deno.writeTextFile(`${folder}/${JOURNAL}`, JSON.stringify(journal));
}

const listed = (folder: string) => [...Deno.readDirSync(folder)].map(({ name }) => name).sort();

Deno.test("repair shows its plan without a terminal, and executes it with --yes", async () => {
  await using folder = await tempFolder();
  const { path } = folder;
  await interrupt(path);
  const before = listed(path);
  const asked = await runCli("repair", `${path}/`);
  const plan = [
    `A save of "model" was interrupted and can be completed (${path}/${JOURNAL}):`,
    `  rename ${path}/model.safetensors to ${path}/${TEMPORARY("c")}`,
    `  rename ${path}/${TEMPORARY("a")} to ${path}/${SHARDS[0]}`,
    `  rename ${path}/${TEMPORARY("b")} to ${path}/${SHARDS[1]}`,
    `  remove ${path}/${TEMPORARY("c")}`,
    `  remove ${path}/${JOURNAL}`,
    "3 renames, 2 removals",
    "",
  ].join("\n");
  assertEquals(asked, {
    code: 1,
    stdout: plan,
    stderr: `error: Nothing was changed in ${path}: --yes does it\n`,
  });
  assertEquals(listed(path), before);
  const done = await runCli("repair", path, "--yes");
  assertEquals(done, { code: 0, stdout: `${plan}Completed\n`, stderr: "" });
  assertEquals(listed(path), SHARDS.slice());
  for (const name of SHARDS) assertEquals(await Deno.readFile(`${path}/${name}`), NEW);
  const again = await runCli("repair", path);
  assertEquals(again, { code: 0, stdout: `Nothing to repair in ${path}\n`, stderr: "" });
});

Deno.test("load, inspect and verify do not change an interrupted save, and name repair", async () => {
  await using folder = await tempFolder();
  await interrupt(folder.path);
  const before = listed(folder.path);
  for (const command of ["load", "inspect", "verify"]) {
    const { code, stderr } = await runCli(command, folder.path);
    assertEquals(code, 1);
    assertStringIncludes(stderr, `was interrupted`);
    assertStringIncludes(stderr, `run "fastsafetensors repair ${folder.path}"`);
    assertEquals((await runCli(command, `${folder.path}/model.safetensors`)).code, 0);
    assertEquals(listed(folder.path), before);
  }
});

Deno.test("repair --json lists the repairs, and does them with --yes", async () => {
  await using folder = await tempFolder();
  const { path } = folder;
  await interrupt(path);
  const before = listed(path);
  const first = await runCli("repair", path, "--json");
  assertEquals(first.code, 1);
  const { repairs: [{ kind, done, renames }], problems } = JSON.parse(first.stdout);
  assertEquals([kind, done, renames.length > 0], ["complete", false, true]);
  assertEquals(problems, [`Nothing was changed in ${path}: --yes does it`]);
  assertEquals(listed(path), before);
  const second = await runCli("repair", path, "--json", "--yes");
  assertEquals(second.code, 0);
  const result = JSON.parse(second.stdout);
  assertEquals([result.repairs[0].done, result.problems], [true, []]);
  assertEquals(JSON.parse((await runCli("repair", path, "--json")).stdout), { repairs: [], problems: [] });
});

Deno.test("repair undoes a save whose files are missing", async () => {
  await using folder = await tempFolder();
  await interrupt(folder.path);
  await Deno.remove(`${folder.path}/${TEMPORARY("a")}`);
  await Deno.rename(`${folder.path}/model.safetensors`, `${folder.path}/${TEMPORARY("c")}`);
  const { code, stdout } = await runCli("repair", "--yes", folder.path);
  assertEquals(code, 0);
  assertStringIncludes(stdout, "cannot be completed, and can be undone");
  assertEquals(listed(folder.path), ["model.safetensors"]);
  assertEquals(await Deno.readFile(`${folder.path}/model.safetensors`), OLD);
});

Deno.test("repair rejects a journal that no save of this user wrote, and continues with the others", async () => {
  await using folder = await tempFolder();
  const { path } = folder;
  await interrupt(path);
  await Deno.writeTextFile(`${path}/thesis.docx`, "years of work");
  const journal = { hide: [["thesis.docx", TEMPORARY("d")]], place: [[TEMPORARY("e"), "evil.safetensors"]] };
  await Deno.writeTextFile(`${path}/.evil.fastsafetensors.json`, JSON.stringify(journal));
  const { code, stderr } = await runCli("repair", "--yes", path);
  assertEquals([code, stderr], [
    1,
    `error: Cannot finish the interrupted save of "${path}/.evil.fastsafetensors.json": it names "thesis.docx", which ` +
    "is not a file of that set: remove the journal\n",
  ]);
  assertEquals(listed(path), [".evil.fastsafetensors.json", ...SHARDS, "thesis.docx"]);
});

Deno.test("repair requires an existing folder", async () => {
  assertEquals((await runCli("repair")).code, 2);
  const { code, stderr } = await runCli("repair", "/nowhere/at/all");
  assertEquals([code, stderr], [
    1,
    'error: Cannot open "/nowhere/at/all": no such file or directory (ENOENT)\n',
  ]);
  const file = await runCli("repair", MAIN);
  assertEquals([file.code, file.stderr], [1, `error: Cannot open "${MAIN}": it is not a folder\n`]);
});

suite("repair on a terminal", "shells", whyNot("script"), () => {
  Deno.test("repair asks on a terminal", async () => {
    for (const [answer, expected] of [["y", "Completed"], ["n", "Nothing was changed"]] as const) {
      await using folder = await tempFolder();
      await interrupt(folder.path);
      const command =
        `printf '${answer}\\n' | script --quiet --command "${Deno.execPath()} run -A ${MAIN} repair ${folder.path}" /dev/null`;
      const printed = await runLineOnTerminal({}, ["sh", "-c", command]);
      assertStringIncludes(printed, "Complete it? [y/N]");
      assertStringIncludes(printed, expected);
      assertEquals(listed(folder.path).includes(JOURNAL), answer === "n");
    }
    await using folder = await tempFolder();
    assertStringIncludes(await runOnTerminal({}, "repair", folder.path), "Nothing to repair");
  });
});

Deno.test("convert rejects a device, FIFO or folder as output, also with --overwrite", async () => {
  await using folder = await tempFolder();
  const input = new URL("../data/pytorch/parameters.pt", import.meta.url).pathname;
  const run = (command: string, ...args: string[]) =>
    new Deno.Command(command, { args, stderr: "null" }).output();
  await run("mknod", `${folder.path}/null`, "c", "1", "3");
  await run("mkfifo", `${folder.path}/fifo`);
  await Deno.mkdir(`${folder.path}/folder`);
  const before = listed(folder.path);
  for (const name of before) {
    const output = `${folder.path}/${name}`;
    const { isFile } = await Deno.lstat(output);
    for (const flags of [[], ["--overwrite"]]) {
      const { code, stderr } = await runCli("convert", "-i", input, "-o", output, ...flags);
      assertEquals([code, isFile, listed(folder.path)], [1, false, before]);
      assertStringIncludes(stderr, `error: Cannot save "${output}": it is a`);
      assertEquals((await Deno.lstat(output)).isFile, false);
    }
  }
  const { code, stdout } = await runCli(
    "convert",
    "-i",
    input,
    "-o",
    `${folder.path}/new/deep/x.safetensors`,
  );
  assertEquals([code, stdout.includes("new/deep/x.safetensors")], [0, true]);
});

Deno.test("convert leaves its whole result or nothing after an interrupt at any moment", async () => {
  const input = new URL("../data/pytorch/parameters.pt", import.meta.url).pathname;
  const outcomes = new Set<string>();
  for (let delay = 0; delay < 600; delay += 60) {
    await using folder = await tempFolder();
    const output = `${folder.path}/new/x.safetensors`;
    const child = startCli("convert", "-i", input, "-o", output, "--max-shard-bytes", "16");
    const timer = setTimeout(() => child.kill("SIGINT"), delay);
    const { code, signal } = await child.output();
    clearTimeout(timer);
    assertEquals(code === 0 || signal === "SIGINT", true, `${code} ${signal}`);
    const names = exists(`${folder.path}/new`) ? listed(`${folder.path}/new`) : [];
    const isWhole = names.includes("x.safetensors.index.json") || names.includes("x.safetensors");
    assertEquals(names.filter((name) => name.startsWith(".")), []);
    assertEquals(isWhole || listed(folder.path).length === 0, true, String(names));
    outcomes.add(isWhole ? "whole" : "nothing");
  }
  assertEquals(outcomes.has("nothing"), true);
});
