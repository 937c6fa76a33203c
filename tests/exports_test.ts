import { assertEquals, assertThrows } from "@std/assert";
import * as main from "../mod.ts";
import { page, read } from "./docs/pages.ts";

const { exports } = JSON.parse(read("deno.json")) as { exports: Record<string, string> };

/** The exports of version 0.1's main module, except types, and their entry points now. */
const EXPORTS_OF_0_1: Readonly<Record<string, readonly string[]>> = {
  ".": [
    "autoOpen",
    "CudaTensor",
    "deserialize",
    "DeviceError",
    "dtypeBits",
    "DTYPES",
    "fastsafeOpen",
    "GroupError",
    "HostTensor",
    "isDType",
    "OutOfMemoryError",
    "PinnedPool",
    "prepare",
    "ReadError",
    "readHeader",
    "SafeTensorsError",
    "SafeTensorsModel",
    "saveFile",
    "serialize",
    "UseAfterCloseError",
    "WebGpuTensor",
    "WriteError",
  ],
  "./compat": ["FilesBuffer", "ParallelLoader", "SafeTensorsFileLoader"],
  "./pytorch": ["convertPyTorch", "openPyTorch"],
  "./ranks": ["GPT2_SHARDS", "LLAMA_SHARDS", "MIXTRAL_SHARDS", "MpiGroup", "NcclGroup", "SingleGroup"],
  "./3fs": ["createReader", "extractMountPoint", "getBackend", "getHf3fsLibPath", "isAvailable"],
  "./doctor": ["doctor"],
};

/** Exports of 0.1 that are types only, and their entry point now. */
const TYPES_OF_0_1: Readonly<Record<string, string>> = {
  "./compat": "LoaderOptions ParallelLoaderOptions",
  "./pytorch": "CheckpointLimits CheckpointOptions ConvertOptions ConvertReport SkippedValue",
  "./ranks":
    "BroadcastBlock DeviceMemory GroupBuffer Json MpiGroupOptions NcclGroupOptions ProcessGroup RankStatus ScatterSource",
  "./3fs": "Backend FileHeader RangeReader ReadChunkedOptions ReaderOptions",
  "./doctor":
    "CudaDeviceInfo CudaDeviceReport CudaReport DoctorReport MachineReport StorageReport UsrbioReport UsrbioUse WebGpuAdapterReport WebGpuReport",
};

for (const [entry, names] of Object.entries(EXPORTS_OF_0_1)) {
  Deno.test(`every value that 0.1 exported is exported by "${entry}"`, async () => {
    const module = await import(`../${exports[entry]!}`) as Record<string, unknown>;
    assertEquals(names.filter((name) => !["function", "object"].includes(typeof module[name])), []);
  });

  if (entry === ".") continue;
  for (const name of names) {
    Deno.test(`${name} of the main module says that it is in "${entry}" now`, () => {
      const moved = (main as Record<string, unknown>)[name] as {
        (): unknown;
        new (): unknown;
        create(): unknown;
      };
      const uses = [() => moved(), () => new moved(), () => moved.create(), () => ({ ...moved })];
      for (const use of uses) {
        assertThrows(
          use,
          TypeError,
          `Cannot use ${name}: import it from this package's entry point "${entry}"`,
        );
      }
    });
  }
}

Deno.test("every type that 0.1 exported is exported by its entry point", () => {
  const missing = Object.entries(TYPES_OF_0_1).flatMap(([entry, names]) =>
    names.split(" ").filter((name) => !new RegExp(`\\b${name}\\b`).test(read(exports[entry]!)))
  );
  assertEquals(missing, []);
});

Deno.test("CHANGELOG.md names every export that has moved", () => {
  const { text } = page("CHANGELOG.md");
  const moved = Object.entries(EXPORTS_OF_0_1).filter(([entry]) => entry !== ".").flatMap(([, names]) =>
    names
  );
  const types = Object.values(TYPES_OF_0_1).flatMap((names) => names.split(" "));
  assertEquals([...moved, ...types].filter((name) => !text.includes(`\`${name}\``)), []);
});

Deno.test("prepare() imports the modules that the first fastsafeOpen() imports", () => {
  /** The modules that a function of a file imports at its call. */
  const imported = (path: string, name: string) => {
    const text = read(path), start = text.indexOf(`async function ${name}`);
    return [...text.slice(start, text.indexOf("\n}", start)).matchAll(/\bimport\("(.+?)"\)/g)].map((
      [, module],
    ) => module!);
  };
  const first = imported("src/deno/open.ts", "open<");
  const prepared = imported("src/deno/prepare.ts", "prepare(");
  assertEquals(first.filter((module) => !prepared.includes(module)), []);
  assertEquals(first.length > 0, true);
});
