/**
 * Saving, the same for both engines: run by native_test.ts and portable_test.ts.
 */
import { type EngineName, testsOf } from "../load/context.ts";
import { byteTests } from "./bytes.ts";
import { interruptedTests } from "./interrupted.ts";
import { mappingTests } from "./mapping.ts";
import { optionTests } from "./options.ts";
import { refusalTests } from "./refusals.ts";
import { replaceTests } from "./replace.ts";
import { shardTests } from "./sharding.ts";
import { sourceTests } from "./sources.ts";
import { viewTests } from "./views.ts";

/** Defines every test of the suite; select the engine before. */
export function saveSuite(engine: EngineName): void {
  const test = testsOf(engine);
  byteTests(test, engine);
  sourceTests(test);
  shardTests(test);
  optionTests(test);
  refusalTests(test);
  viewTests(test);
  replaceTests(test);
  interruptedTests(test);
  mappingTests(test);
}
