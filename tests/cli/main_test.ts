import { assertEquals, assertStringIncludes } from "@std/assert";
import { tempFolder, writeFile } from "../support/models.ts";
import { runCli } from "./support.ts";

const COMMANDS = ["load", "inspect", "verify", "demo", "doctor"];

Deno.test("the command line lists its commands", async () => {
  const { code, stdout, stderr } = await runCli("--help");
  assertEquals([code, stderr], [0, ""]);
  for (const command of COMMANDS) assertStringIncludes(stdout, `\n  ${command} `);
});

for (const command of COMMANDS) {
  Deno.test(`${command} --help prints its usage`, async () => {
    const { code, stdout, stderr } = await runCli(command, "--help");
    assertEquals([code, stderr], [0, ""]);
    assertStringIncludes(stdout, `Usage: deno task ${command}`);
    assertStringIncludes(stdout, "--json");
  });
}

Deno.test("the command line answers wrong usage with the usage and status 2", async () => {
  await using folder = await tempFolder();
  const file = `${folder.path}/x.safetensors`;
  await writeFile(file, [{ name: "x", dtype: "F32", shape: [2] }]);
  const cases: [args: string[], message: string, usage: string][] = [
    [[], "No command was given", "<command>"],
    [["lod"], 'There is no command "lod"', "<command>"],
    [["toString"], 'There is no command "toString"', "<command>"],
    [["load"], "No file, folder or index was named", "load"],
    [["verify"], "No file, folder or index was named", "verify"],
    [["load", file, "--fast"], "There is no option --fast", "load"],
    [["load", file, "--dtype", "F33"], 'There is no dtype "F33"', "load"],
    [["load", file, "--dtype", "I64"], 'Cannot cast to "I64"', "load"],
    [["load", file, "--threads", "0"], "--threads must be a whole number from 1 on", "load"],
    [["load", file, "--threads", "1000"], "maxThreads must be a whole number from 1 to 16", "load"],
    [["load", file, "--device", "abacus"], 'Cannot load to device "abacus"', "load"],
    [["inspect", file, "--names"], "--names needs a value", "inspect"],
    [["demo", file], "demo takes no files", "demo"],
    [["demo", "--bytes", "lots"], "--bytes must be a number of bytes", "demo"],
    [["doctor", file], "doctor takes no files", "doctor"],
  ];
  await Promise.all(cases.map(async ([args, message, usage]) => {
    const { code, stdout, stderr } = await runCli(...args);
    assertEquals([code, stdout], [2, ""], args.join(" "));
    assertEquals(stderr.startsWith(`error: ${message}`), true, stderr);
    assertStringIncludes(stderr, `\n\nUsage: deno task ${usage}`);
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
    [["load", `${path}/evil.index.json`], "plain file name"],
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
