/**
 * The load path from files to typed arrays, the same for both engines: run by load_native_test.ts and
 * load_portable_test.ts.
 */
import { type EngineName, testsOf } from "./load/context.ts";
import { openingTests } from "./load/opening.ts";
import { tensorTests } from "./load/tensors.ts";

/** Defines every test of the suite; the engine has been selected before. */
export function loadSuite(engine: EngineName): void {
  const test = testsOf(engine);
  openingTests(test);
  tensorTests(test, engine);
}
