import { assertEquals } from "@std/assert";
import { dtypeBits, DTYPES, HostTensor } from "../../mod.ts";
import { checkpointLimits } from "../../src/pytorch/limits.ts";
import { firstCells, page, read, section, sources } from "./pages.ts";

/** The names of the options that an interface declares. */
function optionsOf(path: string, name: string): string[] {
  const source = read(path);
  const start = source.indexOf(`export interface ${name}`);
  const body = source.slice(start, source.indexOf("\n}", start));
  return [...body.matchAll(/^ {2}(\w+)\??:/gm)].map(([, option]) => option!);
}

/** The files that the package exports. */
const ENTRIES = Object.values((JSON.parse(read("deno.json")) as { exports: Record<string, string> }).exports);

/** Where the table of each interface of options is. */
const TABLES: readonly [page: string, heading: string, path: string, name: string][] = [
  ["docs/options.md", "fastsafeOpen", "src/model/options.ts", "OpenOptions"],
  ["docs/saving.md", "Options", "src/save/save.ts", "SaveOptions"],
  ["docs/options.md", "ParallelLoader", "src/compat/parallel_loader.ts", "ParallelLoaderOptions"],
  ["docs/options.md", "getTensor", "src/model/model.ts", "GetTensorOptions"],
  ["docs/options.md", "getSharded", "src/files/shard_options.ts", "ShardOptions"],
  ["docs/options.md", "PinnedPool", "src/device/cuda/pinned_pool.ts", "PinnedPoolOptions"],
  ["docs/options.md", "toDLPack", "src/device/dlpack.ts", "DLPackOptions"],
  ["docs/options.md", "usrbio", "src/three_fs/options.ts", "UsrbioOptions"],
  ["docs/options.md", "createReader", "src/three_fs/reader.ts", "ReaderOptions"],
  ["docs/options.md", "MpiGroup", "src/group/mpi_group.ts", "MpiGroupOptions"],
  ["docs/options.md", "NcclGroup", "src/group/nccl_group.ts", "NcclGroupOptions"],
  ["docs/pytorch.md", "Options of openPyTorch", "src/pytorch/checkpoint.ts", "CheckpointOptions"],
  ["docs/pytorch.md", "Options of convertPyTorch", "src/pytorch/convert.ts", "ConvertOptions"],
];

for (const [where, heading, path, name] of TABLES) {
  Deno.test(`${where} has a row for every option of ${name}, in order, and no other`, () => {
    assertEquals(firstCells(where, heading), optionsOf(path, name));
  });
}

Deno.test("every interface of options that is public has its table", () => {
  const names = ENTRIES.flatMap((path) =>
    [...read(path).matchAll(/\b(?:type )?(\w+Options)\b/g)].map(([, name]) => name!)
  );
  const others = [
    "LoaderOptions", // OpenOptions without some
    "ReadChunkedOptions", // the arguments of a call
  ];
  assertEquals([...new Set(names)].sort(), [...TABLES.map(([, , , name]) => name), ...others].sort());
});

Deno.test("every option is read by the code", () => {
  const code = sources(["src"], [".ts"]).values().map((text) => text.replace(/\/\*\*[\s\S]*?\*\//g, ""))
    .toArray().join("\n");
  for (const [, , path, name] of TABLES) {
    // As a property of the options, or taken out of them by destructuring.
    const unread = optionsOf(path, name).filter((option) =>
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
    ["FASTSAFETENSORS_TEST_REQUIRE", "FASTSAFETENSORS_TEST_GPU"],
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
  const names = [...read("mod.ts").matchAll(/^ {2}(\w+Error),$/gm)].map(([, name]) => name!);
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

Deno.test("docs/pytorch.md has every limit of a checkpoint with its default, in order, and no other", () => {
  const rows = [...section("docs/pytorch.md", "Limits").matchAll(/^\| `(\w+)` +\| ([\d,]+)( [KMG]iB)?/gm)];
  const unit = { "": 1, " KiB": 2 ** 10, " MiB": 2 ** 20, " GiB": 2 ** 30 };
  const documented = rows.map(([, name, count, suffix = ""]) =>
    [name, Number(count!.replaceAll(",", "")) * unit[suffix as keyof typeof unit]] as [string, number]
  );
  assertEquals(Object.fromEntries(documented), checkpointLimits({}));
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
  const declared = read("src/load/session.ts");
  const body = declared.slice(declared.indexOf("interface LoadStats"));
  const fields = [...body.slice(0, body.indexOf("\n}")).matchAll(/readonly (\w+):/g)].map(([, name]) =>
    name!
  );
  const text = section("docs/tuning.md", "Reading stats()");
  assertEquals(fields.filter((field) => !text.includes(`\`${field}\``)), []);
  const ways = [.../readonly path:([^;]+);/.exec(body)![1]!.matchAll(/"([^"]+)"/g)].map(([, way]) => way!);
  assertEquals(firstCells("docs/tuning.md", "Reading stats()").filter((cell) => cell.startsWith('"')), [
    ...ways.map((way) => `"${way}"`),
  ]);
});
