/**
 * The configuration file: its keys, its place, and the options that take precedence over it.
 */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { buildShim } from "../ffi/build.ts";
import { SafeTensorsError } from "../mod.ts";
import { type Configuration, parseConfiguration } from "../src/deno/config.ts";
import { withConfiguration } from "../src/deno/options.ts";
import { runCliWith } from "./cli/support.ts";
import { runChild } from "./support/child.ts";
import { compiler } from "./support/compiler.ts";
import { tempFolder, writeFile } from "./support/models.ts";
import { suite } from "./support/skip.ts";

function parse(value: unknown): Configuration {
  const { configuration, warnings } = parseConfiguration(JSON.stringify(value), "c.json");
  assertEquals(warnings, []);
  return configuration;
}

Deno.test("parseConfiguration() accepts fastsafetensors' whole reference configuration", () => {
  const reference = {
    loader: "base",
    framework: "pytorch",
    base: { copier_type: "gds", bbuf_size_kb: 16384, max_threads: 16 },
    "3fs": { mount_point: "/mnt/3fs", entries: 64, io_depth: 0, buffer_size: 67108864 },
    parallel: {
      use_pipeline: false,
      max_concurrent_producers: 1,
      queue_size: 0,
      use_tqdm_on_load: true,
      max_batch_bytes: null,
      use_chunk_budget_as_allocation_size: false,
      device_memory_budget: null,
    },
    debug: { debug_log: false, set_numa: true, disable_cache: true },
  };
  assertEquals(parse(reference), {
    source: "file",
    gds: "auto",
    stagingBytes: 16 * 2 ** 20,
    maxThreads: 16,
    debugLog: false,
    usrbio: {},
  });
});

Deno.test("parseConfiguration() maps each key to its option", () => {
  const none = { usrbio: {} };
  assertEquals(parse({}), none);
  assertEquals(parse({ loader: "3fs" }), { ...none, source: "3fs" });
  assertEquals(parse({ loader: "base" }), { ...none, source: "file" });
  assertEquals(parse({ base: { copier_type: "nogds" } }), { ...none, gds: "off" });
  assertEquals(parse({ base: { copier_type: "unified" } }), { ...none, gds: "off" });
  assertEquals(parse({ base: { max_threads: 64 } }), { ...none, maxThreads: 16 });
  assertEquals(parse({ base: { bbuf_size_kb: 64 } }), { ...none, stagingBytes: 65_536 });
  assertEquals(parse({ debug: { debug_log: true } }), { ...none, debugLog: true });
  assertEquals(parse({ debug_log: true }), { ...none, debugLog: true }, "outside its section too");
  assertEquals(parse({ debug_log: true, debug: { debug_log: false } }), { ...none, debugLog: false });
  const usrbio = {
    mountPoint: "/mnt/x",
    entries: 8,
    ioDepth: -4,
    bufferBytes: 2 ** 20,
    numa: 1,
    timeoutSeconds: 0.5,
  };
  const section = {
    mount_point: "/mnt/x",
    entries: 8,
    io_depth: -4,
    buffer_size: 2 ** 20,
    numa: 1,
    timeout: 0.5,
  };
  assertEquals(parse({ "3fs": section }), { usrbio });
  assertEquals(parse({ "3fs": { mount_point: "" } }), none, "to be found");
});

Deno.test("parseConfiguration() reads only the section of the named loader", () => {
  const both = { base: { max_threads: 4 }, "3fs": { entries: 8 } };
  assertEquals(parse(both), { maxThreads: 4, usrbio: { entries: 8 } });
  assertEquals(parse({ loader: "base", ...both }), { source: "file", maxThreads: 4, usrbio: {} });
  assertEquals(parse({ loader: "3fs", ...both }), { source: "3fs", usrbio: { entries: 8 } });
});

Deno.test("parseConfiguration() warns about values of fastsafetensors that this package does not support", () => {
  const warnings = (value: unknown) => parseConfiguration(JSON.stringify(value), "c.json");
  const usrbio = {};
  assertEquals(warnings({ base: { copier_type: "fgds" } }), {
    configuration: { gds: "auto", usrbio },
    warnings: ['sets base.copier_type to "fgds", which is not supported here: the option gds is "auto"'],
  });
  assertEquals(warnings({ loader: "base", base: { copier_type: "dstorage" } }), {
    configuration: { source: "file", gds: "off", usrbio },
    warnings: ['sets base.copier_type to "dstorage", which is not supported here: the option gds is "off"'],
  });
  assertEquals(warnings({ loader: "3fs", base: { copier_type: "fgds" } }), {
    configuration: { source: "3fs", usrbio },
    warnings: [],
  });
  const instead = "which is not supported here: the option maxBytesInFlight of ParallelLoader bounds memory";
  assertEquals(warnings({ parallel: { max_batch_bytes: 1024 }, device_memory_budget: 4096 }), {
    configuration: { usrbio },
    warnings: [
      `sets parallel.max_batch_bytes to 1024, ${instead}`,
      `sets device_memory_budget to 4096, ${instead}`,
    ],
  });
});

Deno.test("parseConfiguration() warns about unknown keys and ignores them", () => {
  const { configuration, warnings } = parseConfiguration(
    JSON.stringify({
      loader: "3fs",
      colour: 1,
      oss: {},
      "3fs": { entires: 3, entries: 4 },
      debug: { x: null },
    }),
    "c.json",
  );
  assertEquals(
    warnings,
    ["colour", "oss", "3fs.entires", "debug.x"].map((key) => `has an unknown key: ${key}`),
  );
  assertEquals(configuration, { source: "3fs", usrbio: { entries: 4 } });
  assertEquals(parseConfiguration('{"__proto__": 1, "constructor": 2, "": 3}', "c.json").warnings, [
    "has an unknown key: __proto__",
    "has an unknown key: constructor",
    "has an unknown key: ",
  ]);
});

Deno.test("parseConfiguration() rejects a wrong value and names the allowed ones", () => {
  for (
    const [value, message] of [
      [{ loader: "s3" }, 'loader must be "base" or "3fs", got "s3"'],
      [{ framework: "jax" }, 'framework must be "pytorch" or "paddle", got "jax"'],
      [
        { base: { copier_type: "fast" } },
        'base.copier_type must be "gds" or "fgds" or "nogds" or "unified" or "dstorage", got "fast"',
      ],
      [{ base: { max_threads: 0 } }, "base.max_threads must be a whole number from 1 to 1024, got 0"],
      [
        { base: { bbuf_size_kb: "16" } },
        'base.bbuf_size_kb must be a whole number from 64 to 4194304, got "16"',
      ],
      [{ base: [] }, "base must be an object, got []"],
      [{ "3fs": { io_depth: 4 } }, "3fs.io_depth must be a whole number from -4096 to 0, got 4"],
      [
        { "3fs": { buffer_size: 4096 } },
        "3fs.buffer_size must be a whole number from 1048576 to 17179869184",
      ],
      [
        { "3fs": { mount_point: "mnt" } },
        '3fs.mount_point must be an absolute path, or "" to search for it, got "mnt"',
      ],
      [{ "3fs": { timeout: -1 } }, "3fs.timeout must be a number from 0 to 86400, got -1"],
      [{ parallel: { max_concurrent_producers: 2 } }, "parallel.max_concurrent_producers must be 1, got 2"],
      [
        { parallel: { queue_size: -2 } },
        "parallel.queue_size must be a whole number from -1 to 2147483647, got -2",
      ],
      [
        { parallel: { max_batch_bytes: 0 } },
        "parallel.max_batch_bytes must be null or a whole number from 1 on, got 0",
      ],
      [{ use_pipeline: 1 }, "use_pipeline must be true or false, got 1"],
      [{ debug: { debug_log: "yes" } }, 'debug.debug_log must be true or false, got "yes"'],
    ] as const
  ) {
    const error = assertThrows(() => parse(value), SafeTensorsError);
    assertEquals([error.code, error.path], ["InvalidConfig", "c.json"]);
    assertStringIncludes(error.message, `Cannot use the configuration "c.json": ${message}`);
  }
  for (const text of ["", "{", "[]", "null", '"base"']) {
    const error = assertThrows(() => parseConfiguration(text, "c.json"), SafeTensorsError);
    assertStringIncludes(error.message, 'Cannot read the configuration "c.json": ');
  }
});

Deno.test("withConfiguration() gives options in code precedence", () => {
  const file = parse({
    loader: "3fs",
    "3fs": { entries: 8, numa: 1 },
    debug: { debug_log: true },
  });
  assertEquals(withConfiguration({}, file), {
    source: "3fs",
    debugLog: true,
    usrbio: { entries: 8, numa: 1 },
  });
  assertEquals(
    withConfiguration({ source: "file", debugLog: false, usrbio: { entries: 16 }, dtype: "F32" }, file),
    { source: "file", debugLog: false, usrbio: { entries: 16, numa: 1 }, dtype: "F32" },
  );
  const nothing = { source: undefined } as unknown as { source: "file" };
  assertEquals(withConfiguration(nothing, file).source, "3fs", "undefined says nothing");
  assertEquals(withConfiguration({ gds: "require" }, file).source, undefined, "it needs ordinary files");
  assertEquals(withConfiguration({ nogds: false }, parse({ base: { copier_type: "nogds" } })), {
    nogds: false,
    usrbio: {},
  });
});

const { missing } = await compiler();

suite("The configuration of a process", "native", missing, () => {
  interface Options {
    readonly way?: "autoOpen" | "fastsafeOpen" | "all";
    readonly flags?: readonly string[];
  }

  /** Opens files in a separate process. */
  async function load(
    folder: string,
    env: Record<string, string>,
    { way = "fastsafeOpen", flags = ["--allow-all"] }: Options = {},
  ) {
    const { code, stdout, stderr } = await runChild("config.ts", {
      flags: [...flags, "--no-check"],
      args: [way, `${folder}/model.safetensors`],
      env: { HOME: folder, DENO_DIR, FASTSAFETENSORS_LIB: await buildShim(), ...env },
      cwd: folder,
    });
    assertEquals(code, 0, stderr);
    return JSON.parse(stdout) as { threads?: number; lines: string[]; error?: string; code?: string };
  }

  const DENO_DIR = Deno.makeTempDirSync({ prefix: "fastsafetensors-deno-" });
  globalThis.addEventListener("unload", () => Deno.removeSync(DENO_DIR, { recursive: true }));

  Deno.test("autoOpen() finds the configuration by FASTSAFETENSORS_CONFIG, or in the working folder", async () => {
    await using folder = await tempFolder();
    const { path } = folder;
    const auto = { way: "autoOpen" } as const;
    await writeFile(`${path}/model.safetensors`, [{ name: "x", dtype: "U8", shape: [30_000_000] }]);
    const plain = await load(path, {}, auto);
    assert(plain.threads! > 1);
    await Deno.writeTextFile(`${path}/fastsafetensors.json`, '{"base": {"max_threads": 1}, "future": 1}');
    assertEquals(await load(path, {}, auto), {
      threads: 1,
      lines: ['fastsafetensors: the configuration "fastsafetensors.json" has an unknown key: future'],
    });
    await Deno.writeTextFile(`${path}/other.json`, '{"base": {"max_threads": 3}}');
    const env = { FASTSAFETENSORS_CONFIG: `${path}/other.json` };
    assertEquals(await load(path, env, auto), { threads: 3, lines: [] });
    await Deno.writeTextFile(`${path}/fastsafetensors.json`, '{"loader": "s3"}');
    assertEquals((await load(path, {}, auto)).code, "InvalidConfig");
  });

  Deno.test("fastsafeOpen() reads only the configuration that FASTSAFETENSORS_CONFIG names", async () => {
    await using folder = await tempFolder();
    const { path } = folder;
    await writeFile(`${path}/model.safetensors`, [{ name: "x", dtype: "U8", shape: [30_000_000] }]);
    await Deno.writeTextFile(`${path}/fastsafetensors.json`, '{"name": "of another program", "debug": "*"}');
    const plain = await load(path, {});
    assertEquals([plain.error, plain.lines], [undefined, []]);
    await Deno.writeTextFile(`${path}/other.json`, '{"base": {"max_threads": 3}}');
    assertEquals(await load(path, { FASTSAFETENSORS_CONFIG: `${path}/other.json` }), {
      threads: 3,
      lines: [],
    });
    const missing = await load(path, { FASTSAFETENSORS_CONFIG: "/nowhere.json" });
    assertEquals(missing.code, "InvalidConfig");
    assertStringIncludes(
      missing.error!,
      'Cannot read the configuration "/nowhere.json", which FASTSAFETENSORS_CONFIG names: No such file',
    );
  });

  Deno.test("every way to open files reads only the configuration that FASTSAFETENSORS_CONFIG names", async () => {
    await using folder = await tempFolder();
    const { path } = folder;
    await writeFile(`${path}/model.safetensors`, [{ name: "x", dtype: "U8", shape: [3] }]);
    const bad = `${path}/fastsafetensors.json`;
    await Deno.writeTextFile(bad, '{"loader": "s3"}');
    const codes = async (env: Record<string, string>) => await load(path, env, { way: "all" }) as unknown;
    assertEquals(await codes({}), {
      fastsafeOpen: null,
      openPyTorch: "WrongFormat", // it is a safetensors file
      ParallelLoader: null,
      SafeTensorsFileLoader: null,
    });
    assertEquals(await codes({ FASTSAFETENSORS_CONFIG: bad }), {
      fastsafeOpen: "InvalidConfig",
      openPyTorch: "InvalidConfig",
      ParallelLoader: "InvalidConfig",
      SafeTensorsFileLoader: "InvalidConfig",
    });
  });

  Deno.test("the command line applies the configuration, and its options have precedence", async () => {
    await using folder = await tempFolder();
    const { path } = folder;
    await writeFile(`${path}/model.safetensors`, [{ name: "x", dtype: "U8", shape: [30_000_000] }]);
    await Deno.writeTextFile(`${path}/c.json`, '{"base": {"max_threads": 3}, "future": 1}');
    const env = { FASTSAFETENSORS_CONFIG: `${path}/c.json`, FASTSAFETENSORS_LIB: await buildShim() };
    const command = async (...options: string[]) => {
      const args = ["load", `${path}/model.safetensors`, "--json", ...options];
      const { code, stdout, stderr } = await runCliWith(env, ...args);
      return { code, stderr, threads: code === 0 ? JSON.parse(stdout).threads : null };
    };
    const plain = await command();
    assertEquals([plain.code, plain.threads], [0, 3], plain.stderr);
    assertStringIncludes(plain.stderr, "has an unknown key: future");
    assertEquals((await command("--threads", "2")).threads, 2);
    await Deno.writeTextFile(`${path}/c.json`, '{"loader": "s3"}');
    const refused = await command();
    assertEquals(refused.code, 1);
    assertStringIncludes(refused.stderr, 'loader must be "base" or "3fs", got "s3"');
  });

  Deno.test("a configuration without read permission is ignored", async () => {
    await using folder = await tempFolder();
    const { path } = folder;
    await writeFile(`${path}/model.safetensors`, [{ name: "x", dtype: "U8", shape: [30_000_000] }]);
    await Deno.writeTextFile(`${path}/fastsafetensors.json`, '{"loader": "s3"}');
    const env = { FASTSAFETENSORS_CONFIG: `${path}/missing.json` };
    const model = `--allow-read=${path}/model.safetensors`;
    const { error, threads } = await load(path, env, {
      flags: [model, "--allow-ffi", "--allow-env=FASTSAFETENSORS_LIB"],
    });
    assertEquals(error, undefined);
    assert(threads! > 1);
    const flags = [model, "--allow-ffi", "--allow-env"];
    assertEquals((await load(path, env, { flags })).error, undefined);
    assertEquals((await load(path, {}, { flags, way: "autoOpen" })).error, undefined);
  });
});
