import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { parseArguments } from "../../src/cli/arguments.ts";
import { COMMANDS as COMMAND_TABLE } from "../../src/cli/commands.ts";
import { tempFolder, writeFile } from "../support/models.ts";
import { MAIN, runCli, runCliWith } from "./support.ts";

const COMMANDS = ["load", "inspect", "verify", "convert", "demo", "doctor", "completions"];

Deno.test("the command line lists its commands", async () => {
  const { code, stdout, stderr } = await runCli("--help");
  assertEquals([code, stderr], [0, ""]);
  for (const command of COMMANDS) assertStringIncludes(stdout, `\n  ${command} `);
});

Deno.test("the command line tells the version of the package", async () => {
  const { version } = JSON.parse(await Deno.readTextFile(new URL("../../deno.json", import.meta.url)));
  assertEquals(await runCli("--version"), { code: 0, stdout: `fastsafetensors ${version}\n`, stderr: "" });
});

for (const command of COMMANDS) {
  Deno.test(`${command} --help prints usage, options and examples`, async () => {
    const { code, stdout, stderr } = await runCli(command, "--help");
    assertEquals([code, stderr], [0, ""]);
    assertEquals(stdout.startsWith(`Usage: fastsafetensors ${command} `), true, stdout);
    assertMatch(stdout, /\n\nOptions:\n(.+\n)* {2}-h, --help +print this\n/);
    assertMatch(stdout, new RegExp(`\n\nExamples:\n {2}# .+\n {2}fastsafetensors ${command}\\b`));
    assertEquals(stdout.split("\n").filter((line) => line.length > 110), []);
  });
}

Deno.test("the examples in the help of a command are understood by it", () => {
  for (const [name, command] of Object.entries(COMMAND_TABLE)) {
    const kinds = Object.fromEntries(
      Object.entries(command.options).map(([option, { kind }]) => [option, kind]),
    );
    for (const [line] of command.examples) {
      const [first, ...words] = line.replace(/ >.*/, "").split(" ");
      assertEquals(first, name);
      parseArguments(words, kinds);
    }
  }
});

Deno.test("the command line prints no colours to a pipe, even if it could", async () => {
  for (const words of [["--help"], ["load", "--help"], ["inspect"]]) {
    const { stdout, stderr } = await runCliWith({ NO_COLOR: "" }, ...words);
    assertEquals([stdout, stderr].join("").includes("\x1b"), false);
  }
});

Deno.test("the command line ends quietly when nobody reads on", async () => {
  await using folder = await tempFolder();
  const path = `${folder.path}/many.safetensors`;
  await writeFile(
    path,
    Array.from({ length: 20_000 }, (_, n) => ({ name: `${n}.x`, dtype: "U8", shape: [n % 9] })),
  );
  const line = `"$1" run -A "$2" inspect "$3" --list | head -n 1; echo "\${PIPESTATUS[0]}"`;
  const { stdout, stderr } = await new Deno.Command("bash", {
    args: ["-c", line, "bash", Deno.execPath(), MAIN, path],
  }).output();
  const decoder = new TextDecoder();
  assertEquals([decoder.decode(stdout), decoder.decode(stderr)], [`${path}\n0\n`, ""]);
});

Deno.test("the command line answers wrong usage with the usage and status 2", async () => {
  await using folder = await tempFolder();
  const file = `${folder.path}/x.safetensors`;
  await writeFile(file, [{ name: "x", dtype: "F32", shape: [2] }]);
  const cases: [args: string[], message: string, usage: string][] = [
    [[], "No command was given", "<command>"],
    [["lod"], 'There is no command "lod": did you mean "load"?', "<command>"],
    [["remove"], 'There is no command "remove"\n', "<command>"],
    [["toString"], 'There is no command "toString"', "<command>"],
    [["load"], "No file, folder or index was named", "load"],
    [["verify"], "No file, folder or index was named", "verify"],
    [["load", file, "--fast"], "There is no option --fast\n", "load"],
    [["load", file, "--thread=2"], "There is no option --thread: did you mean --threads?", "load"],
    [["load", file, "--dtype", "F33"], 'There is no dtype "F33"', "load"],
    [["load", file, "--dtype", "I64"], 'Cannot cast to "I64"', "load"],
    [["load", file, "--threads", "0"], "--threads must be a whole number from 1 on", "load"],
    [["load", file, "--threads", "1000"], "maxThreads must be a whole number from 1 to 16", "load"],
    [["load", file, "--device", "abacus"], 'Cannot load to device "abacus"', "load"],
    [["load", file, "--source", "tape"], "source must be ", "load"],
    [["load", file, "--block-bytes", "1000"], "blockBytes must be", "load"],
    [["load", file, "--staging-bytes", "1"], "stagingBytes must be", "load"],
    [["load", file, "--shard", "0"], "--shard goes with --ranks", "load"],
    [["load", file, "--no-json"], "There is no option --no-json", "load"],
    [["convert", file, "--dtype", "F33"], 'There is no dtype "F33"', "convert"],
    [["convert", file, "--dtype", "I64"], 'Cannot cast to "I64"', "convert"],
    [["convert"], "No checkpoint was given", "convert"],
    [["inspect", file, "--names"], "--names needs a value", "inspect"],
    [["inspect", file, "--depth", "0"], "--depth must be a whole number from 1 on", "inspect"],
    [["inspect", file, "--list", "--json"], "--list and --json are two ways", "inspect"],
    [["inspect", file, "--list", "--depth", "1"], "--depth is for the tree", "inspect"],
    [["demo", file], "demo takes no files", "demo"],
    [["demo", "--bytes", "lots"], "--bytes must be a number of bytes", "demo"],
    [["completions"], "completions needs the name of one shell: bash, zsh, fish", "completions"],
    [["completions", "bash", "--json"], "There is no option --json", "completions"],
  ];
  await Promise.all(cases.map(async ([args, message, usage]) => {
    const { code, stdout, stderr } = await runCli(...args);
    assertEquals([code, stdout], [2, ""], args.join(" "));
    assertEquals(stderr.startsWith(`error: ${message}`), true, stderr);
    assertStringIncludes(stderr, `\n\nUsage: fastsafetensors ${usage}`);
    assertEquals(stderr.trimEnd().split("\n").length, 5, stderr);
  }));
});

Deno.test("the command line answers failure with one line and status 1", async () => {
  await using folder = await tempFolder();
  const { path } = folder;
  await writeFile(`${path}/good.safetensors`, [{ name: "x", dtype: "F32", shape: [2] }]);
  await writeFile(`${path}/same.safetensors`, [{ name: "x", dtype: "F32", shape: [2] }]);
  await Deno.writeFile(`${path}/bad.safetensors`, new Uint8Array([3, 0, 0, 0, 0, 0, 0, 0, 123, 33, 125]));
  await Deno.writeTextFile(`${path}/lfs.safetensors`, "version https://git-lfs.github.com/spec/v1\n");
  await Deno.writeTextFile(`${path}/evil.index.json`, '{"weight_map": {"x": "../x.safetensors"}}');
  await Deno.mkdir(`${path}/empty`);
  await Deno.writeTextFile(`${path}/sums.json`, '{"x": "12"}');
  const cases: [args: string[], message: string][] = [
    [
      ["load", `${path}/none.safetensors`],
      `Cannot open "${path}/none.safetensors": no such file or directory`,
    ],
    [["inspect", `${path}/bad.safetensors`], `Cannot read the header of "${path}/bad.safetensors"`],
    [["verify", `${path}/lfs.safetensors`], "git lfs pull"],
    [["load", `${path}/evil.index.json`], "leads out of the index's folder"],
    [["load", `${path}/empty`], "no .safetensors file is in this folder"],
    [["load", `${path}/good.safetensors`, `${path}/same.safetensors`], 'tensor "x" is also in'],
    [["load", `${path}/good.safetensors`, "--names", "y*"], 'no name matches "y*"'],
    [["verify", `${path}/good.safetensors`, "--checksums", `${path}/none.json`], "Cannot read checksums"],
    [["verify", `${path}/good.safetensors`, "--checksums", `${path}/sums.json`], "64 hexadecimal digits"],
  ];
  await Promise.all(cases.map(async ([args, message]) => {
    const { code, stdout, stderr } = await runCli(...args);
    assertEquals([code, stdout], [1, ""], `${args.join(" ")}: ${stderr}`);
    assertStringIncludes(stderr, message);
    assertEquals(stderr.startsWith("error: "), true, stderr);
    assertEquals(stderr.trimEnd().split("\n").length, 1, stderr);
  }));
});
