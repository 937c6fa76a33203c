import { assertEquals } from "@std/assert";
import { dtypeBits, DTYPES, HostTensor, SafeTensorsModel } from "../../mod.ts";
import { NETWORK_VARIABLES } from "../../src/files/native/network_host.ts";
import { checkpointLimits } from "../../src/pytorch/errors.ts";
import { firstCells, page, read, section, sources } from "./pages.ts";

const CODE = sources(["src"], [".ts"]).values().toArray().join("\n");

/** The entry points of the package for programs. */
const ENTRIES = Object.values(JSON.parse(read("deno.json")).exports as Record<string, string>)
  .filter((path) => path.endsWith("/mod.ts")).map((path) => read(path.slice(2))).join("\n");

/** The declaration of an interface, from its name to its closing brace. */
function declarationOf(name: string): string {
  const start = CODE.search(new RegExp(`export interface ${name}\\b`));
  if (start < 0) throw new Error(`Cannot find the interface "${name}" in src`);
  return CODE.slice(start, CODE.indexOf("\n}", start));
}

/** The names of the options that an interface has: those of the one that it extends come first. */
function optionsOf(name: string): string[] {
  const declaration = declarationOf(name);
  const [, inherited] = /^[^{]*? extends (ModelOptions)\b/.exec(declaration) ?? [];
  const own = [...declaration.matchAll(/^ {2}(\w+)\??:/gm)].map(([, option]) => option!);
  return [...inherited === undefined ? [] : optionsOf(inherited), ...own];
}

/** Where the table of each interface of options is. */
const TABLES: readonly [page: string, heading: string, name: string][] = [
  ["docs/options.md", "fastsafeOpen", "OpenOptions"],
  ["docs/saving.md", "Options", "SaveOptions"],
  ["docs/options.md", "ParallelLoader", "ParallelLoaderOptions"],
  ["docs/options.md", "dequantize", "DequantizeOptions"],
  ["docs/options.md", "getTensor", "GetTensorOptions"],
  ["docs/options.md", "getSharded", "ShardOptions"],
  ["docs/options.md", "to", "ToOptions"],
  ["docs/options.md", "quantize", "QuantizeOptions"],
  ["docs/options.md", "PinnedPool", "PinnedPoolOptions"],
  ["docs/options.md", "toDLPack", "DLPackOptions"],
  ["docs/options.md", "usrbio", "UsrbioOptions"],
  ["docs/network.md", "network", "NetworkOptions"],
  ["docs/network.md", "hub", "HubOptions"],
  ["docs/network.md", "s3", "S3Options"],
  ["docs/network.md", "cache", "CacheOptions"],
  ["docs/options.md", "createReader", "ReaderOptions"],
  ["docs/options.md", "MpiGroup", "MpiGroupOptions"],
  ["docs/options.md", "NcclGroup", "NcclGroupOptions"],
  ["docs/pytorch.md", "Options of openPyTorch", "CheckpointOptions"],
  ["docs/pytorch.md", "Options of convertPyTorch", "ConvertOptions"],
];

for (const [where, heading, name] of TABLES) {
  Deno.test(`${where} has a row for every option of ${name}, in order, and no other`, () => {
    assertEquals(firstCells(where, heading), optionsOf(name));
  });
}

Deno.test("docs/options.md has every entry point, in order, and no other", () => {
  const { name, exports } = JSON.parse(read("deno.json")) as {
    name: string;
    exports: Record<string, string>;
  };
  assertEquals(
    firstCells("docs/options.md", "Entry points"),
    Object.keys(exports).map((entry) => `"${name}${entry.slice(1)}"`),
  );
});

Deno.test("every interface of options that is public has its table", () => {
  const names = [...ENTRIES.matchAll(/\b(?:type )?(\w+Options)\b/g)].map(([, name]) => name!);
  const others = [
    "GetShardedOptions", // those of getTensor and getSharded
    "LoaderOptions", // OpenOptions without some
    "ModelOptions", // part of OpenOptions
    "ReadChunkedOptions", // the arguments of a call
  ];
  assertEquals([...new Set(names)].sort(), [...TABLES.map(([, , name]) => name), ...others].sort());
});

Deno.test("every option is read by the code", () => {
  const code = sources(["src"], [".ts"]).values().map((text) => text.replace(/\/\*\*[\s\S]*?\*\//g, ""))
    .toArray().join("\n");
  for (const [, , name] of TABLES) {
    // As a property of the options, or taken out of them by destructuring.
    const unread = optionsOf(name).filter((option) =>
      !new RegExp(
        `\\b(?:options|given)\\.${option}\\b|` +
          `[{,]\\s*${option}\\b(?=[^{}]*\\}\\s*(?:= (?:this\\.#)?options\\b|:\\s*\\w+(?:Options|Place)\\b))`,
      ).test(code)
    );
    assertEquals(unread, [], name);
  }
});

/** The variables of this package that are named in files, without those of the tests. */
function variables(text: string): string[] {
  const names = [...text.matchAll(/\bFASTSAFETENSORS_[A-Z0-9_]*[A-Z0-9]\b/g)].map(([name]) => name);
  return [...new Set(names)].sort();
}

Deno.test("docs/options.md has every environment variable that the code reads, and no other", () => {
  const code = sources(["src", "ffi", "native"], [".ts", ".c", ".h"]).values().toArray().join("\n");
  const documented = firstCells("docs/options.md", "Environment variables");
  assertEquals(documented.toSorted(), variables(code));
});

Deno.test("docs/network.md has every variable that files on servers depend on, and no other", () => {
  const rows = section("docs/network.md", "Variables").matchAll(/^\| ((?:`\w+`(?:, )?)+)/gm);
  const documented = [...rows].flatMap(([, cell]) =>
    [...cell!.matchAll(/`(\w+)`/g)].map(([, name]) => name!)
  );
  assertEquals(documented.toSorted(), NETWORK_VARIABLES.toSorted());
});

Deno.test("docs/options.md names every other environment variable that the code reads", () => {
  const text = section("docs/options.md", "Environment variables");
  const read = sources(["src", "ffi"], [".ts"]).values().toArray().join("\n")
    .matchAll(/(?:Deno\.env\.get|environmentVariable|environment)\("([A-Z_0-9]+)"\)/g);
  assertEquals(read.map(([, name]) => name!).filter((name) => !text.includes(`\`${name}\``)).toArray(), []);
});

Deno.test("CONTRIBUTING.md has every environment variable of the tests, and no other", () => {
  const code = sources(["tests"], [".ts"]).values().toArray().join("\n");
  assertEquals(
    firstCells("CONTRIBUTING.md", "Tests"),
    ["FASTSAFETENSORS_TEST_REQUIRE", "FASTSAFETENSORS_TEST_GPU", "FASTSAFETENSORS_TEST_VENDORS"],
  );
  const named = variables(page("CONTRIBUTING.md").text).filter((name) =>
    name.startsWith("FASTSAFETENSORS_TEST_")
  );
  assertEquals(named, variables(code).filter((name) => name.startsWith("FASTSAFETENSORS_TEST_")));
});

Deno.test("docs/options.md has every key of the configuration file", () => {
  const source = read("src/deno/config.ts");
  const keys = [
    ...source.matchAll(/^ *(?:"": \{ )?(\w+): (?:oneOf|whole|seconds|BOOLEAN|PATH|BUDGET|COPIER)/gm),
  ]
    .map(([, key]) => key!);
  const text = section("docs/options.md", "The configuration file");
  assertEquals(new Set(keys).isSupersetOf(new Set(["loader", "copier_type", "queue_size", "timeout"])), true);
  assertEquals(keys.filter((key) => !text.includes(`\`${key}\``)), []);
  assertEquals(
    firstCells("docs/options.md", "The configuration file").filter((key) => !source.includes(key)),
    [],
  );
});

Deno.test("docs/errors.md has every error class of the package", () => {
  const names = [...ENTRIES.matchAll(/^ {2}(\w+Error),$/gm)].map(([, name]) => name!);
  const documented = firstCells("docs/errors.md", "Errors").filter((name) =>
    name.endsWith("Error") && !/^(Type|Range)Error|Deno/.test(name)
  );
  assertEquals(documented.toSorted(), names.toSorted());
});

Deno.test("docs/errors.md has every code of a SafeTensorsError, in order, and no other", () => {
  const source = read("src/base/errors.ts");
  const start = source.indexOf("type SafeTensorsErrorCode");
  const codes = [...source.slice(start, source.indexOf(";", start)).matchAll(/\| "(\w+)"/g)].map(([, code]) =>
    code!
  );
  assertEquals(codes.length > 20, true);
  assertEquals(firstCells("docs/errors.md", "Codes of a SafeTensorsError"), codes);
});

Deno.test("docs/errors.md has every code of a RemoteError, in order, and no other", () => {
  const source = read("src/base/errors.ts");
  const start = source.indexOf("type RemoteErrorCode");
  const codes = [...source.slice(start, source.indexOf(";", start)).matchAll(/\| "(\w+)"/g)].map(([, code]) =>
    code!
  );
  assertEquals(codes.length, 8);
  assertEquals(firstCells("docs/errors.md", "Codes of a RemoteError"), codes);
});

Deno.test("docs/pytorch.md has every limit of a checkpoint with its default, in order, and no other", () => {
  const rows = [...section("docs/pytorch.md", "Limits").matchAll(/^\| `(\w+)` +\| ([\d,]+)( [KMG]iB)?/gm)];
  const unit = { "": 1, " KiB": 2 ** 10, " MiB": 2 ** 20, " GiB": 2 ** 30 };
  const documented = rows.map(([, name, count, suffix = ""]) =>
    [name, Number(count!.replaceAll(",", "")) * unit[suffix as keyof typeof unit]] as [string, number]
  );
  assertEquals(Object.fromEntries(documented), checkpointLimits({}));
});

Deno.test("docs/tensors.md has every method of a model", () => {
  const text = section("docs/tensors.md", "What a model returns");
  const methods = Object.getOwnPropertyNames(SafeTensorsModel.prototype).filter((name) =>
    name !== "constructor"
  );
  assertEquals(methods.length > 10, true);
  assertEquals(methods.filter((name) => !text.includes(`${name}(`)), []);
});

Deno.test("docs/tensors.md has every dtype, with its bits and its typed array", () => {
  const rows = section("docs/tensors.md", "Dtypes").matchAll(/^\| `(\w+)` +\| +(\d+) \| `(\w+)` +\|/gm);
  const documented = [...rows].map(([, dtype, bits, array]) => [dtype, Number(bits), array]);
  const real = DTYPES.map((dtype) => {
    const bits = dtypeBits(dtype);
    return [dtype, bits, new HostTensor("x", dtype, [8], new Uint8Array(bits)).data.constructor.name];
  });
  assertEquals(documented.sort(), real.sort());
});

Deno.test("docs/tuning.md has every field of the statistics, and every way that bytes go", () => {
  const body = declarationOf("LoadStats");
  const fields = [...body.matchAll(/readonly (\w+):/g)].map(([, name]) => name!);
  const text = section("docs/tuning.md", "Reading stats()");
  assertEquals(fields.filter((field) => !text.includes(`\`${field}\``)), []);
  const ways = [.../readonly path:([^;]+);/.exec(body)![1]!.matchAll(/"([^"]+)"/g)].map(([, way]) => way!);
  assertEquals(firstCells("docs/tuning.md", "Reading stats()").filter((cell) => cell.startsWith('"')), [
    ...ways.map((way) => `"${way}"`),
  ]);
});
