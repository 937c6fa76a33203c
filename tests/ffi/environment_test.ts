import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { findCuda } from "../../ffi/cuda.ts";
import { SHIM_VARIABLES } from "../../ffi/environment.ts";
import { openLibrary } from "../../ffi/library.ts";
import { SOURCES } from "../../ffi/sources.ts";
import { setEnv } from "../support/environment.ts";
import { suite } from "../support/skip.ts";

/** A source without its comments. */
function code(name: string): string {
  return SOURCES[name]!.replace(/\/\*[^]*?\*\//g, "");
}

Deno.test("no C source reads or changes the process's environment", () => {
  for (const name of Object.keys(SOURCES)) {
    const used = code(name).match(/\b(secure_getenv|getenv|setenv|putenv|unsetenv|clearenv|environ)\b/);
    assert(!used, `${name} uses ${used?.[0]}: see native/core/core.h`);
  }
});

Deno.test("every variable that C sources look up is passed to them, and no other", () => {
  const named = Object.keys(SOURCES).flatMap((name) => {
    const lookedUp = code(name).matchAll(
      /fst_environment\("(\w+)"|\.variable = "(\w+)"|\{"([A-Z_]{4,})", "\//g,
    );
    const lists = code(name).matchAll(/_VARIABLES\[\] = \{([^}]*)\}/g);
    const listed = lists.flatMap(([, names]) => names!.matchAll(/"(\w+)"/g).map(([, name]) => name!));
    return [...[...lookedUp].map((match) => match[1] ?? match[2] ?? match[3]!), ...listed];
  });
  assertEquals([...SHIM_VARIABLES].sort(), [...new Set(named)].sort());
});

const { shim } = await openLibrary();

suite("the environment of the library", "native", shim ? null : "there is no native library", () => {
  Deno.test("a variable that the program sets applies to the next search for a library", async () => {
    const before = await findCuda(shim!);
    if (before.library !== null) return; // it is already open
    {
      using _named = setEnv({ FASTSAFETENSORS_CUDART_LIB: "/nowhere/libcudart.so" });
      const { reason } = await findCuda(shim!);
      assertStringIncludes(reason, 'FASTSAFETENSORS_CUDART_LIB names "/nowhere/libcudart.so"');
    }
    assertEquals((await findCuda(shim!)).reason, before.reason);
  });
});
