/**
 * The vendors' own libraries: each has the functions that native/ looks for, and loads without a GPU.
 */
import { assertEquals } from "@std/assert";
import { suite } from "../support/skip.ts";
import { type Declared, LIBRARIES } from "./declarations.ts";
import { folderWith, VENDORS } from "./vendors.ts";

/** The functions that a library lacks. */
function missingFunctions(path: string, declared: Declared): string[] {
  const symbols = declared.members.map((member) => declared.symbol(member)).filter(({ optional }) =>
    !optional
  );
  return symbols.filter(({ name }) => {
    try {
      Deno.dlopen(path, { [name]: { parameters: [], result: "void" } }).close();
      return false;
    } catch (error) {
      if (!(error as Error).message.includes(name)) throw error;
      return true;
    }
  }).map(({ name }) => name);
}

for (
  const [name, declared] of [
    ["CUDA", LIBRARIES.cudart],
    ["cuFile", LIBRARIES.cufile],
    ["NCCL", LIBRARIES.nccl],
  ] as const
) {
  const { requirement, library, libraries } = VENDORS[name];
  const { path, missing } = folderWith(library, libraries);
  suite(`the library of ${name}`, requirement, missing, () => {
    Deno.test(`${library} has every function that the package needs`, () => {
      assertEquals(missingFunctions(`${path}/${library}`, declared), []);
    });
  });
}
