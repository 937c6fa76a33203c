/**
 * Permissions: the package never prompts for one, also on a terminal, and one message names all useful ones.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { buildShim } from "../ffi/build.ts";
import { MAIN, runLineOnTerminal, whyNot } from "./cli/support.ts";
import { sources } from "./docs/pages.ts";
import { runChild } from "./support/child.ts";
import { compiler } from "./support/compiler.ts";
import { tempFolder, writeFile } from "./support/models.ts";
import { suite } from "./support/skip.ts";

/** Deno's compile cache, for homes without one. */
const DENO_DIR = await Deno.makeTempDir({ prefix: "fastsafetensors-deno-" });
globalThis.addEventListener("unload", () => Deno.removeSync(DENO_DIR, { recursive: true }));

const LOAD = new URL("children/load.ts", import.meta.url).pathname;
const NOTICE =
  "fastsafetensors: Portable engine, slower than the native one: the native library needs more " +
  "permissions, add ";
const SHELL_FOLDER = '"${XDG_CACHE_HOME:-$HOME/.cache}/fastsafetensors"';

/** A model, and an empty home. */
async function place() {
  const folder = await tempFolder();
  const { path } = folder;
  const model = `${path}/model.safetensors`;
  await writeFile(model, [{ name: "x", dtype: "U8", shape: [5] }]);
  await Deno.mkdir(`${path}/bin`);
  return {
    path,
    model,
    env: { HOME: path, DENO_DIR, PATH: Deno.env.get("PATH")! },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

/** Permissions of a program with the given home, and the notice on those that it lacks. */
const SETS:
  readonly (readonly [flags: (home: string) => readonly string[], missing: (home: string) => string])[] = [
    [
      () => ["--allow-read"],
      () =>
        `--allow-ffi --allow-write=${SHELL_FOLDER} --allow-run=cc ` +
        "--allow-env=FASTSAFETENSORS_LIB,XDG_CACHE_HOME,HOME --allow-sys=systemMemoryInfo",
    ],
    [
      (home) => [`--allow-read=${home}/model.safetensors`, "--allow-ffi"],
      () =>
        `--allow-read=${SHELL_FOLDER} --allow-write=${SHELL_FOLDER} --allow-run=cc ` +
        "--allow-env=FASTSAFETENSORS_LIB,XDG_CACHE_HOME,HOME --allow-sys=systemMemoryInfo",
    ],
    [
      () => ["--allow-read", "--allow-env", "--allow-sys"],
      (home) => `--allow-ffi --allow-write=${home}/.cache/fastsafetensors --allow-run=cc`,
    ],
    [
      () => ["--allow-read", "--allow-ffi", "--allow-env=FASTSAFETENSORS_LIB,XDG_CACHE_HOME,HOME"],
      (home) => `--allow-write=${home}/.cache/fastsafetensors --allow-run=cc --allow-sys=systemMemoryInfo`,
    ],
    [
      () => ["--allow-read", "--allow-env", "--allow-write", "--allow-run"],
      () => "--allow-ffi --allow-sys=systemMemoryInfo",
    ],
    [() => ["--allow-all", "--deny-ffi"], () => "--allow-ffi"],
  ];

Deno.test("without a permission the portable engine loads, and one notice names all that are missing", async () => {
  await using at = await place();
  for (const [flags, missing] of SETS) {
    const options = { flags: flags(at.path), args: [at.model], env: at.env };
    const { code, stdout, stderr } = await runChild("load.ts", options);
    assertEquals([code, JSON.parse(stdout).path], [0, "portable"], stderr);
    assertEquals(stderr, `${NOTICE}${missing(at.path)}\n`);
  }
});

Deno.test("the package does not compile or write files if it cannot open the library", async () => {
  await using at = await place();
  const cc = `${at.path}/bin/cc`;
  await Deno.writeTextFile(cc, `#!/bin/sh\ntouch ${at.path}/started\n`, { mode: 0o755 });
  for (
    const flags of [["--allow-all", "--deny-ffi"], [
      "--allow-read",
      "--allow-write",
      "--allow-run",
      "--allow-env",
    ]]
  ) {
    const env = { ...at.env, PATH: `${at.path}/bin` };
    assertEquals((await runChild("load.ts", { flags, args: [at.model], env })).code, 0);
  }
  assertEquals([...Deno.readDirSync(at.path)].map(({ name }) => name).sort(), ["bin", "model.safetensors"]);
});

suite("Permissions on a terminal", "shells", whyNot("script"), () => {
  Deno.test("the package never prompts for a permission", async () => {
    await using at = await place();
    const run = [Deno.execPath(), "run", "--no-check", "--quiet"];
    const programs: readonly (readonly [words: readonly string[], printed: string])[] = [
      [[LOAD, at.model], '"path":"portable"'],
      [[MAIN, "load", at.model], "Loaded 1 tensor of 5 bytes"],
      [[MAIN, "inspect", at.model], "1 tensor of 5 bytes in 1 file"],
      [[MAIN, "verify", at.model], "1 tensor of 5 bytes, every byte was read"],
      [[MAIN, "doctor", at.model], "Engine"],
      [[MAIN, "load", "--device", "cuda", at.model], "error:"],
      [[MAIN, "load", "--source", "3fs", at.model], "error:"],
      [[MAIN, "load", "--ranks", at.model], "error:"],
      [[MAIN, "--help"], "Usage:"],
    ];
    for (const [flags] of SETS) {
      for (const [words, printed] of programs) {
        const line = ["timeout", "60", ...run, ...flags(at.path), ...words];
        const got = await runLineOnTerminal(at.env, line);
        assertEquals(/Deno requests|Allow\?/.test(got), false, `${line.join(" ")}\n${got}`);
        assertStringIncludes(got, printed, line.join(" "));
      }
    }
  });
});

const { missing } = await compiler();

suite("A library that becomes available later", "native", missing, () => {
  Deno.test("the library is found once its permission is granted", async () => {
    await using at = await place();
    const env = {
      ...at.env,
      FASTSAFETENSORS_LIB: "",
      XDG_CACHE_HOME: (await buildShim()).replace(/\/fastsafetensors\/[^/]*$/, ""),
    };
    const { code, stdout, stderr } = await runChild("late_library.ts", {
      flags: ["-A"],
      args: ["permission", at.model],
      env,
    });
    assertEquals([code, stdout], [0, "portable portable native\n"], stderr);
    assertEquals(stderr.split("Portable engine").length, 2, "one notice");
  });

  Deno.test("prepare() looks for the library again after a failure", async () => {
    await using at = await place();
    const env = { ...at.env, PATH: `${at.path}/bin` };
    const { code, stdout, stderr } = await runChild("late_library.ts", {
      flags: ["-A"],
      args: ["prepare", at.model, await buildShim()],
      env,
    });
    assertEquals([code, stdout], [0, "portable portable native native\n"], stderr);
  });

  Deno.test("the permissions that the notice names suffice to build and use the library", async () => {
    await using at = await place();
    const folder = `${at.path}/.cache/fastsafetensors`;
    const flags = [
      `--allow-read=${at.model}`,
      "--allow-ffi",
      `--allow-read=${folder}`,
      `--allow-write=${folder}`,
      "--allow-run=cc",
      "--allow-env=FASTSAFETENSORS_LIB,XDG_CACHE_HOME,HOME",
    ];
    const { code, stdout, stderr } = await runChild("load.ts", { flags, args: [at.model], env: at.env });
    assertEquals(code, 0, stderr);
    assertMatch(JSON.parse(stdout).path, /^(buffered|direct)$/);
    assertEquals(stderr, "fastsafetensors: building the native library, once: this takes some seconds\n");
    // From now on the package does not write files or start a compiler.
    const use = flags.filter((flag) => !/write|run/.test(flag));
    const again = await runChild("load.ts", { flags: use, args: [at.model], env: at.env });
    assertEquals([again.code, again.stderr], [0, ""]);
  });
});

Deno.test("only ffi/variables.ts reads values that may need a permission", () => {
  const LOOKS =
    /\bDeno\.(env|systemMemoryInfo|hostname|osRelease|osUptime|loadavg|networkInterfaces|uid|gid)\b/;
  const code = sources(["src", "ffi"], [".ts"]);
  const places = code.entries().filter(([, text]) => LOOKS.test(text)).map(([path]) => path).toArray();
  assertEquals(places, ["ffi/variables.ts"]);
  // The variables of node:process equal Deno.env's.
  assert(code.entries().every(([, text]) => !/from "node:process"|\bprocess\.env\b/.test(text)));
});
