import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { parseArguments } from "../../src/cli/arguments.ts";
import { GroupError, OutOfMemoryError, ReadError, SafeTensorsError } from "../../mod.ts";
import { COMMANDS as COMMAND_TABLE } from "../../src/cli/commands.ts";
import { inOwnWords } from "../../src/cli/own_words.ts";
import { tempFolder, writeFile } from "../support/models.ts";
import { MAIN, runCli, runCliWith, startCliWith } from "./support.ts";

const CHECKPOINT = new URL("../data/pytorch/tied.pt", import.meta.url).pathname;
const COMMANDS = [
  "load",
  "inspect",
  "verify",
  "convert",
  "repair",
  "demo",
  "doctor",
  "repair",
  "completions",
  "help",
];

Deno.test("the command line lists its commands", async () => {
  const { code, stdout, stderr } = await runCli("--help");
  assertEquals([code, stderr], [0, ""]);
  for (const command of COMMANDS) assertStringIncludes(stdout, `\n  ${command} `);
});

Deno.test("the command line prints its help without a command, and the help of a command after the word help", async () => {
  const help = await runCli("--help");
  for (const args of [[], ["help"], ["-h"]]) assertEquals(await runCli(...args), help);
  const ofLoad = await runCli("load", "--help");
  assertEquals(await runCli("help", "load"), ofLoad);
  assertEquals((await runCli("help", "lod")).code, 2);
  assertEquals(await runCli("-V"), await runCli("--version"));
});

Deno.test("the command line prints the version of the package", async () => {
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

Deno.test("the examples in the help of a command parse without errors", () => {
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

Deno.test("the command line prints no colours to a pipe", async () => {
  for (const words of [["--help"], ["load", "--help"], ["inspect"]]) {
    const { stdout, stderr } = await runCliWith({ NO_COLOR: "" }, ...words);
    assertEquals([stdout, stderr].join("").includes("\x1b"), false);
  }
});

Deno.test("the command line ends without an error when its pipe is closed", async () => {
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

Deno.test("the command line prints the usage and ends with status 2 after wrong usage", async () => {
  await using folder = await tempFolder();
  const file = `${folder.path}/x.safetensors`;
  await writeFile(file, [{ name: "x", dtype: "F32", shape: [2] }]);
  const cases: [args: string[], message: string, usage: string][] = [
    [["lod"], 'There is no command "lod": did you mean "load"?', "<command>"],
    [["remove"], 'There is no command "remove"\n', "<command>"],
    [["toString"], 'There is no command "toString"', "<command>"],
    [["help", "lod"], 'There is no command "lod": did you mean "load"?', "help"],
    [["load"], "No file, folder or index was named", "load"],
    [["verify"], "No file, folder or index was named", "verify"],
    [["load", file, "--fast"], "There is no option --fast\n", "load"],
    [["load", file, "--thread=2"], "There is no option --thread: did you mean --threads?", "load"],
    [["load", file, "--dtype", "F33"], 'There is no dtype "F33"', "load"],
    [["load", file, "--dtype", "float16"], 'There is no dtype "float16": did you mean F16?', "load"],
    [["load", file, "--gds", "require"], '--gds "require" needs a CUDA GPU', "load"],
    [["load", file, "--gds", "on"], '--gds must be one of auto, require, off, got "on"', "load"],
    [
      ["load", file, "--threads", "1", "--threads", "2"],
      "--threads can be given once, got it 2 times",
      "load",
    ],
    [["load", file, "--block-bytes", "5MB"], "--block-bytes must be a multiple of 4096, got 5000000", "load"],
    [["load", file, "--dtype", "I64"], 'Cannot cast to "I64"', "load"],
    [["load", file, "--threads", "0"], "--threads must be a whole number from 1 on", "load"],
    [["load", file, "--threads", "1000"], "--threads must be a whole number from 1 to 16", "load"],
    [["load", file, "--device", "abacus"], 'Cannot load to device "abacus"', "load"],
    [["load", file, "--source", "tape"], '--source must be one of file, 3fs, got "tape"', "load"],
    [["load", file, "--block-bytes", "1000"], "--block-bytes must be a whole number from 4096 ", "load"],
    [["load", file, "--staging-bytes", "1"], "--staging-bytes must be", "load"],
    [["load", file, "--shard", "0"], "--shard needs --ranks", "load"],
    [["load", file, "--no-json"], "There is no option --no-json", "load"],
    [["convert", file, "--dtype", "F33"], 'There is no dtype "F33"', "convert"],
    [["convert", file, "--dtype", "I64"], 'Cannot cast to "I64"', "convert"],
    [["convert"], "No checkpoint was given", "convert"],
    [["inspect", file, "--names"], "--names needs a value", "inspect"],
    [["inspect", file, "--depth", "0"], "--depth must be a whole number from 1 on", "inspect"],
    [["inspect", file, "--list", "--json"], "--list and --json exclude each other", "inspect"],
    [["inspect", file, "--list", "--depth", "1"], "--depth needs the tree", "inspect"],
    [["demo", file], "demo takes no files", "demo"],
    [["demo", "--bytes", "900TiB"], "--bytes must be at most 1TiB, got 989560464998400", "demo"],
    [["convert", CHECKPOINT, "--limit", "maxFoo=3"], '--limit has no "maxFoo"', "convert"],
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

Deno.test("the command line prints one line and ends with status 1 after a failure", async () => {
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

Deno.test("errors name flags and commands, not options and functions of the library", async () => {
  await using folder = await tempFolder();
  const { path } = folder;
  const checkpoint = new URL("../data/pytorch/tied.pt", import.meta.url).pathname;
  await Deno.copyFile(checkpoint, `${path}/tied.pt`);
  await runCli("convert", `${path}/tied.pt`);
  const cases: [args: string[], end: string][] = [
    [["convert", `${path}/tied.pt`], "it exists: --overwrite replaces it"],
    [
      ["convert", `${path}/tied.safetensors`],
      `it needs no conversion: fastsafetensors load ${path}/tied.safetensors`,
    ],
  ];
  for (const [args, end] of cases) {
    const { code, stderr } = await runCli(...args);
    assertEquals(code, 1, stderr);
    assertEquals(stderr.trimEnd().endsWith(end), true, stderr);
  }
});

Deno.test("inOwnWords() replaces options and advice of the library by flags and commands", () => {
  const options = Object.keys(COMMAND_TABLE["load"]!.options);
  const advice = "load fewer names, or open with lazy: true";
  const ring = "dispose tensors, load fewer names, or lower stagingBytes";
  const cases: readonly (readonly [error: Error, text: string])[] = [
    [
      new OutOfMemoryError("9 bytes are needed", 9, 1, { advice }),
      "9 bytes are needed: --names loads fewer tensors",
    ],
    [
      new OutOfMemoryError("9 bytes are needed for a ring", 9, 1, { advice: ring }),
      "9 bytes are needed for a ring: --names loads fewer tensors, --staging-bytes takes less",
    ],
    [
      new SafeTensorsError("DuplicateName", "Both have x", { advice: "open one of them" }),
      "Both have x: open one of them",
    ],
    [
      new GroupError("Rank 1 left the group before broadcast() of 8 bytes from rank 0", 1, ""),
      "Rank 1 left the group before broadcast of 8 bytes from rank 0",
    ],
    [
      new GroupError('Rank 1 calls getSharded("a \\"b", 0), rank 0 getTensor("c()")', 1, ""),
      'Rank 1 calls the load of "a \\"b", rank 0 the load of "c()"',
    ],
    [
      new GroupError(`Rank 1 failed: Cannot load: 9 bytes are needed: ${advice}`, 1, ""),
      "Rank 1 failed: Cannot load: 9 bytes are needed: --names loads fewer tensors",
    ],
    [
      new GroupError(
        'Rank 1 failed: Cannot read "x": it is a safetensors file: open it with fastsafeOpen',
        1,
        "",
      ),
      'Rank 1 failed: Cannot read "x": it is a safetensors file',
    ],
    [
      new ReadError('Cannot read "x": /dev/shm is full: enlarge it, or lower usrbio.bufferBytes', {
        path: "x",
      }),
      'Cannot read "x": /dev/shm is full: enlarge it',
    ],
    [
      new SafeTensorsError("WrongFormat", "Cannot read it", {
        path: "a b",
        format: "safetensors",
        advice: "open it with fastsafeOpen",
      }),
      "Cannot read it: it needs no conversion: fastsafetensors load 'a b'",
    ],
    [new RangeError("maxThreads must be a whole number"), "--threads must be a whole number"],
    [
      new RangeError("stagingBytes must be less than blockBytes"),
      "--staging-bytes must be less than --block-bytes",
    ],
    [
      new TypeError('gds: "require" and source: "3fs" contradict'),
      '--gds "require" and --source "3fs" contradict',
    ],
    [
      new TypeError('Cannot cast to "I8": dtype must be one of F32'),
      'Cannot cast to "I8": --dtype must be one of F32',
    ],
    [
      new Error('Cannot open "maxThreads/names must be \\"gds: true"'),
      'Cannot open "maxThreads/names must be \\"gds: true"',
    ],
    [new Error("someThing: true and names are left"), "someThing: true and names are left"],
  ];
  for (const [error, text] of cases) assertEquals(inOwnWords(error, options), text);
  const withoutNames = Object.keys(COMMAND_TABLE["verify"]!.options);
  assertEquals(inOwnWords(cases[0]![0], withoutNames), "9 bytes are needed");
  assertEquals(inOwnWords("thrown as it is", options), "thrown as it is");
});

Deno.test("errors of the system have the text of the command line", async () => {
  const missing = await Deno.readFile("/nowhere/a b").catch((error) => error);
  assertEquals(inOwnWords(missing, []), 'Cannot go on: "/nowhere/a b": no such file or directory (ENOENT)');
  const { code, stderr } = await runCliWith(
    { NO_COLOR: "1", TMPDIR: "/nowhere/temp" },
    "demo",
    "--bytes",
    "1MB",
  );
  assertEquals(code, 1);
  assertEquals(stderr, "error: Cannot make a temporary folder: no such file or directory (ENOENT)\n");
  const config = await runCliWith(
    { NO_COLOR: "1", FASTSAFETENSORS_CONFIG: "/nowhere.json" },
    "load",
    CHECKPOINT,
  );
  assertEquals(
    config.stderr,
    'error: Cannot read the configuration "/nowhere.json", which FASTSAFETENSORS_CONFIG names: no such file or ' +
      "directory (ENOENT)\n",
  );
});

Deno.test("commands say once that there is no compiler", async () => {
  await using folder = await tempFolder();
  await writeFile(`${folder.path}/x.safetensors`, [{ name: "x", dtype: "F32", shape: [2] }]);
  const env = { NO_COLOR: "1", PATH: "/nowhere", XDG_CACHE_HOME: folder.path };
  const lines = [
    ["load", `${folder.path}/x.safetensors`],
    ["inspect", `${folder.path}/x.safetensors`],
    ["verify", `${folder.path}/x.safetensors`],
    ["convert", CHECKPOINT, "--dry-run"],
    ["demo", "--bytes", "1MB"],
    ["doctor"],
  ];
  for (const words of lines) {
    const { code, stdout, stderr } = await startCliWith(env, ...words).output();
    const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
    assertEquals([code, text.split("no C compiler").length], [0, 2], text);
    assertEquals(text.includes("--allow-"), false, text);
  }
});
