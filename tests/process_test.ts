/**
 * Tests in separate processes: permissions, the source of the native library, and the end of a process during a load.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { buildShim } from "../ffi/build.ts";
import { type ChildResult, privileged, runChild } from "./support/child.ts";
import { compiler } from "./support/compiler.ts";
import { buildTestShim } from "./support/test_library.ts";
import { type TempFolder, tempFolder, writeFile, type Written } from "./support/models.ts";
import { suite } from "./support/skip.ts";

/** A folder with a small model, an empty cache folder, and a folder for Deno's cache. */
interface Place extends AsyncDisposable {
  readonly path: string;
  readonly model: string;
  readonly sum: number;
  readonly env: Record<string, string>;
}

async function place(): Promise<Place> {
  const folder: TempFolder = await tempFolder();
  const { path } = folder;
  const model = `${path}/model.safetensors`;
  const tensors: Written[] = await writeFile(model, [
    { name: "a", dtype: "F16", shape: [1000, 7] },
    { name: "b", dtype: "U8", shape: [77] },
  ]);
  await Deno.mkdir(`${path}/bin`);
  return {
    path,
    model,
    sum: tensors.reduce((sum, { bytes }) => sum + bytes.reduce((part, byte) => part + byte, 0), 0),
    env: { HOME: path, XDG_CACHE_HOME: `${path}/cache`, DENO_DIR, PATH: Deno.env.get("PATH") ?? "" },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

/** Deno's compile cache, for the programs of these tests only. */
const DENO_DIR = await Deno.makeTempDir({ prefix: "fastsafetensors-deno-" });
globalThis.addEventListener("unload", () => Deno.removeSync(DENO_DIR, { recursive: true }));

const BUILDING = "fastsafetensors: building the native library, once: this takes some seconds\n";
const NOTICE = "fastsafetensors: Portable engine, slower than the native one: ";

function assertPortable(result: ChildResult, sum: number, reason: RegExp): void {
  assertEquals(result.code, 0, result.stderr);
  assertEquals(JSON.parse(result.stdout), { path: "portable", sum });
  assert(result.stderr.startsWith(NOTICE), result.stderr);
  assertEquals(result.stderr.split(NOTICE).length, 2, "the notice stands more than once");
  assertMatch(result.stderr, reason);
}

function assertNative(result: ChildResult, sum: number): void {
  assertEquals([result.code, result.stderr], [0, ""]);
  const printed = JSON.parse(result.stdout);
  assertEquals(printed.sum, sum);
  assert(printed.path === "buffered" || printed.path === "direct", printed.path);
}

const { missing } = await compiler();

Deno.test("without a compiler and with an empty cache the portable engine loads, with one notice", async () => {
  await using at = await place();
  const { path, model, env, sum } = at;
  const result = await runChild("load.ts", {
    flags: ["-A"],
    args: [model],
    env: { ...env, PATH: `${path}/bin` },
  });
  assertPortable(result, sum, /there is no C compiler "cc" on the PATH/);
  assertEquals(result.stderr.trimEnd().split("\n").length, 1, result.stderr);
});

Deno.test("a compiler that fails is quoted in the notice", async () => {
  await using at = await place();
  const { path, model, env, sum } = at;
  await Deno.writeTextFile(`${path}/bin/cc`, "#!/bin/sh\necho 'boom: no such target' >&2\nexit 3\n", {
    mode: 0o755,
  });
  const result = await runChild("load.ts", {
    flags: ["-A"],
    args: [model],
    env: { ...env, PATH: `${path}/bin` },
  });
  assert(result.stderr.startsWith(BUILDING), result.stderr);
  const rest = { ...result, stderr: result.stderr.slice(BUILDING.length) };
  assertPortable(rest, sum, /"cc" ended with status 3:\nboom: no such target/);
  assertEquals(
    [...Deno.readDirSync(env.XDG_CACHE_HOME + "/fastsafetensors")].map(({ name }) => name.slice(-5)),
    [
      ".lock",
    ],
  );
});

Deno.test("FASTSAFETENSORS_LIB with a file that is not the shim is an error", async () => {
  await using at = await place();
  const { path, model, env } = at;
  await Deno.writeTextFile(`${path}/text.so`, "not a library");
  const libc = [...Deno.readTextFileSync("/proc/self/maps").matchAll(/\S*\/libc\.so\.6$/gm)][0]?.[0];
  for (const named of [`${path}/missing.so`, `${path}/text.so`, ...libc ? [libc] : []]) {
    const { code, stdout, stderr } = await runChild("load.ts", {
      flags: ["-A"],
      args: [model],
      env: { ...env, FASTSAFETENSORS_LIB: named },
    });
    assertEquals([code, stdout], [1, ""]);
    assertStringIncludes(stderr, `Cannot use the library that FASTSAFETENSORS_LIB names, "${named}": `);
    assert(!stderr.includes(NOTICE), stderr);
  }
});

suite("Files without permission", "unprivileged", privileged(), () => {
  Deno.test("a file without read permission is named, with the system's error", async () => {
    await using at = await place();
    const { path, model, env } = at;
    await Deno.mkdir(`${path}/closed`);
    await Deno.copyFile(model, `${path}/closed/model.safetensors`);
    await Deno.chmod(`${path}/closed`, 0);
    await Deno.chmod(model, 0);
    try {
      for (const name of [model, `${path}/closed`, `${path}/closed/model.safetensors`]) {
        for (
          const engineEnv of missing === null
            ? [{ PATH: "" }, { FASTSAFETENSORS_LIB: await buildShim() }]
            : [{ PATH: "" }]
        ) {
          const { code, stderr } = await runChild("load.ts", {
            flags: ["-A"],
            args: [name],
            env: { ...env, ...engineEnv },
            unprivileged: true,
          });
          assertEquals(code, 1);
          assertMatch(stderr, /ReadError: Cannot open ".*": permission denied \(EACCES\)/);
        }
      }
    } finally {
      await Deno.chmod(`${path}/closed`, 0o700);
    }
  });
});

suite("Processes with the native engine", "native", missing, () => {
  Deno.test("FFI permission for the library alone suffices", async () => {
    await using at = await place();
    const { model, env, sum } = at;
    const library = await buildShim();
    const result = await runChild("load.ts", {
      flags: [`--allow-ffi=${library}`, "--allow-read", "--allow-env=FASTSAFETENSORS_LIB"],
      args: [model],
      env: { ...env, FASTSAFETENSORS_LIB: library },
    });
    assertNative(result, sum);
  });

  Deno.test("Deno's read permission also applies to the native engine", async () => {
    await using at = await place();
    const { path, model, env } = at;
    await Deno.mkdir(`${path}/allowed`);
    const library = await buildShim();
    const { code, stderr } = await runChild("load.ts", {
      flags: [`--allow-ffi=${library}`, `--allow-read=${path}/allowed`, "--allow-env=FASTSAFETENSORS_LIB"],
      args: [model],
      env: { ...env, FASTSAFETENSORS_LIB: library },
    });
    assertEquals(code, 1);
    assertMatch(stderr, /NotCapable: Requires read access to ".*model\.safetensors"/);
  });

  Deno.test("processes can build in parallel into an empty cache", async () => {
    await using at = await place();
    const { model, env, sum } = at;
    const results = await Promise.all(
      [1, 2, 3].map(() => runChild("load.ts", { flags: ["-A"], args: [model], env })),
    );
    const building = results.filter(({ stderr }) => stderr === BUILDING);
    assertEquals(building.length, 1, "one of them builds, and says so");
    for (const result of results) {
      assertNative(result === building[0] ? { ...result, stderr: "" } : result, sum);
    }
    const built = [...Deno.readDirSync(`${env.XDG_CACHE_HOME}/fastsafetensors`)].map(({ name }) => name)
      .sort();
    assertEquals(built.length, 2, built.join());
    assertEquals(built[1], `${built[0]}.lock`);
    // From now on a compiler is not needed.
    assertNative(await runChild("load.ts", { flags: ["-A"], args: [model], env: { ...env, PATH: "" } }), sum);
  });

  Deno.test("memory that is transferred and collected during a load is never written", async () => {
    await using at = await place();
    const { path, env } = at;
    const model = `${path}/large.safetensors`;
    await writeFile(model, [
      { name: "first", dtype: "U8", shape: [100_000] },
      { name: "rest", dtype: "U8", shape: [2_000_000] },
    ]);
    const library = await buildTestShim();
    const { code, stdout, stderr } = await runChild("transfer.ts", {
      flags: ["-A", "--v8-flags=--expose-gc"],
      args: [model],
      env: { ...env, FASTSAFETENSORS_LIB: library },
    });
    assertEquals([code, stdout, stderr], [0, "intact\n", ""]);
  });

  Deno.test("a worker can be terminated during a load", async () => {
    await using at = await place();
    const { path, env } = at;
    const model = `${path}/large.safetensors`;
    await writeFile(model, [{ name: "x", dtype: "U8", shape: [16_000_000] }]);
    const library = await buildTestShim();
    const result = await runChild("terminate.ts", {
      flags: ["-A"],
      args: [model],
      env: { ...env, FASTSAFETENSORS_LIB: library },
    });
    assertEquals(result, { code: 0, stdout: "intact\n", stderr: "" });
  });

  endings("native", () => buildShim().then((library) => ({ FASTSAFETENSORS_LIB: library })));
});

endings("portable", () => Promise.resolve({ PATH: "" }));

/** A process may end at any time. */
function endings(engine: string, environment: () => Promise<Record<string, string>>): void {
  Deno.test(`a process can end during a load [${engine}]`, async () => {
    await using at = await place();
    const { path, env } = at;
    const model = `${path}/large.safetensors`;
    await writeFile(model, [{ name: "x", dtype: "U8", shape: [16_000_000] }]);
    const engineEnv = await environment();
    for (
      const [way, code, printed] of [["return", 0, ""], ["exit", 7, ""], ["throw", 1, "of the user"], [
        "reject",
        1,
        'Cannot find tensor "missing"',
      ]] as const
    ) {
      const result = await runChild("leave.ts", {
        flags: ["-A"],
        args: [model, way],
        env: { ...env, ...engineEnv },
      });
      assertEquals([result.code, result.stdout], [code, "loading\n"], `${way}: ${result.stderr}`);
      const rest = result.stderr.startsWith(NOTICE)
        ? result.stderr.slice(result.stderr.indexOf("\n") + 1)
        : result.stderr;
      assertStringIncludes(rest, printed);
      if (printed === "") assertEquals(rest, "", way);
    }
  });
}
