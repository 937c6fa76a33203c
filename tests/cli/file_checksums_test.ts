import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { parseSums } from "../../src/cli/file_checksums.ts";
import { tempFolder, type TensorSpec, writeFile, writeShards } from "../support/models.ts";
import { suite } from "../support/skip.ts";
import { runCli, runCliWith, whyNot } from "./support.ts";

const W: TensorSpec[] = [{ name: "w", dtype: "U8", shape: [4] }];
const V: TensorSpec[] = [{ name: "v", dtype: "U8", shape: [4] }];

/** FIPS 180-2, "abc". */
const ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/** The output of a shell command in a folder. */
async function shell(cwd: string, line: string): Promise<string> {
  const { code, stdout } = await new Deno.Command("sh", { args: ["-c", line], cwd }).output();
  assertEquals(code, 0, line);
  return new TextDecoder().decode(stdout);
}

Deno.test("parseSums() reads the lines of sha256sum: text mode, binary mode, --tag, escaped names", () => {
  const text = [
    `# a comment`,
    `${ABC}  a b.safetensors`,
    `${ABC.toUpperCase()} *binary`,
    `SHA256 (tag (1)) = ${ABC}`,
    `\\${ABC}  back\\\\slash\\nline\\r`,
    `\\SHA256 (tag\\n) = ${ABC}`,
    `${ABC}  plain\\n\r`,
    "",
  ].join("\n");
  assertEquals(
    parseSums(text, "S"),
    ["a b.safetensors", "binary", "tag (1)", "back\\slash\nline\r", "tag\n", "plain\\n"].map((name) => ({
      name,
      sum: ABC,
    })),
  );
  for (const line of [`${ABC.slice(1)}  x`, ABC, `SHA512 (x) = ${ABC}${ABC}`, "hello"]) {
    assertThrows(() => parseSums(`${ABC}  x\n${line}`, "S"), Error, "line 2 is not a line of sha256sum");
  }
});

suite("lists of sha256sum", "shells", whyNot("sha256sum"), () => {
  Deno.test("verify --sha256 compares files with lists that sha256sum wrote, and fails on a change", async () => {
    await using folder = await tempFolder();
    const { path } = folder;
    const name = "odd \\ name\n.safetensors";
    await writeFile(`${path}/${name}`, W);
    await writeFile(`${path}/b.safetensors`, V);
    await Deno.writeTextFile(`${path}/config.json`, "{}");
    for (const options of ["", "--binary", "--tag"]) {
      await Deno.writeTextFile(
        `${path}/SUMS`,
        await shell(path, `sha256sum ${options} *.safetensors config.json`),
      );
      const { code, stdout, stderr } = await runCli(
        "verify",
        `${path}/${name}`,
        `${path}/b.safetensors`,
        "--sha256",
        `${path}/SUMS`,
      );
      assertEquals([code, stderr], [0, ""], options);
      assertStringIncludes(stdout, "\nSHA-256:   2 agree, 0 do not\n");
      assertStringIncludes(stdout, `  ${path}/b.safetensors: agrees with ${path}/SUMS\n`);
    }
    const [before] = (await shell(path, "sha256sum b.safetensors")).split(" ");
    await writeFile(`${path}/b.safetensors`, [{ ...V[0]!, bytes: new Uint8Array(4) }]);
    const [after] = (await shell(path, "sha256sum b.safetensors")).split(" ");
    const b = `${path}/b.safetensors`;
    const { code, stdout, stderr } = await runCli("verify", b, "--sha256", `${path}/SUMS`);
    assertEquals(code, 1);
    assertStringIncludes(stdout, `  ${b}: ${before} expected by ${path}/SUMS, ${after} found\n`);
    assertStringIncludes(stderr, "error: Verification failed: 1 of 1 checksums of files do not agree");
    const json = JSON.parse((await runCli("verify", b, "--sha256", `${path}/SUMS`, "--json")).stdout);
    assertEquals([json.ok, json.sha256], [false, [
      { path: b, expected: before, list: `${path}/SUMS`, actual: after },
    ]]);
  });
});

Deno.test("verify --sha256 compares with every line of a list, and takes names relative to the list's folder", async () => {
  await using folder = await tempFolder();
  const { path } = folder;
  await writeFile(`${path}/a.safetensors`, W);
  const bytes = await Deno.readFile(`${path}/a.safetensors`);
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
  await Deno.writeTextFile(`${path}/good`, `${sum}  ./x/../a.safetensors\n`);
  assertEquals((await runCli("verify", path, "--sha256", `${path}/good`)).code, 0);
  await Deno.writeTextFile(`${path}/two`, `${ABC}  a.safetensors\n${sum}  ${path}/a.safetensors\n`);
  const { code, stdout } = await runCli("verify", path, "--sha256", `${path}/two`);
  assertEquals(code, 1);
  assertStringIncludes(stdout, "\nSHA-256:   1 agree, 1 do not\n");
});

Deno.test("verify --sha256 fails if the list has none of the files, or cannot be read", async () => {
  await using folder = await tempFolder();
  const { path } = folder;
  await writeFile(`${path}/a.safetensors`, W);
  await Deno.writeTextFile(`${path}/SUMS`, `${ABC}  other.safetensors\n`);
  const cases = [
    ["SUMS", `Cannot verify with the list "${path}/SUMS": it has none of the files that were opened\n`],
    ["missing", `Cannot read checksums from "${path}/missing": no such file or directory (ENOENT)\n`],
    [".", "illegal operation on a directory (EISDIR)\n"],
    ["a.safetensors", "line 1 is not a line of sha256sum"],
  ] as const;
  for (const [list, message] of cases) {
    const { code, stdout, stderr } = await runCli(
      "verify",
      `${path}/a.safetensors`,
      "--sha256",
      `${path}/${list}`,
    );
    assertEquals([code, stdout], [1, ""]);
    assertStringIncludes(stderr, message);
  }
});

Deno.test("verify compares files of a Hugging Face cache with the names of their blobs", async () => {
  await using folder = await tempFolder();
  const cache = `${folder.path}/models--org--name`, snapshot = `${cache}/snapshots/0123`;
  await Deno.mkdir(snapshot, { recursive: true });
  await Deno.mkdir(`${cache}/blobs`);
  const { paths } = await writeShards(snapshot, [W, V]);
  const sums: string[] = [];
  for (const path of paths) {
    const bytes = await Deno.readFile(path);
    sums.push(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex());
    await Deno.rename(path, `${cache}/blobs/${sums.at(-1)}`);
    await Deno.symlink(`../../blobs/${sums.at(-1)}`, path);
  }
  const good = await runCli("verify", cache);
  assertEquals([good.code, good.stderr], [0, ""]);
  assertStringIncludes(good.stdout, "\nSHA-256:   2 agree, 0 do not\n");
  assertStringIncludes(good.stdout, `  ${paths[0]}: agrees with the name of its blob\n`);

  using blob = await Deno.open(`${cache}/blobs/${sums[1]}`, { write: true });
  await blob.seek(-1, Deno.SeekMode.End);
  await blob.write(new Uint8Array([255]));
  for (const input of [snapshot, `${cache}/blobs/${sums[1]}`]) {
    const bad = await runCliWith({ NO_COLOR: "1" }, "verify", input);
    assertEquals(bad.code, 1);
    assertStringIncludes(bad.stdout, `: ${sums[1]} expected by the name of its blob, `);
    assertStringIncludes(bad.stderr, "checksums of files do not agree, the first is that of");
  }
});
