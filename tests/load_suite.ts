/**
 * The load path from files to typed arrays, the same for both engines: run by load_native_test.ts and
 * load_portable_test.ts.
 */
import { badFileTests } from "./load/bad_files.ts";
import { castTests } from "./load/casts.ts";
import { changedFileTests } from "./load/changed_files.ts";
import { type EngineName, testsOf } from "./load/context.ts";
import { dequantizeTests } from "./load/dequantize.ts";
import { fileLoaderTests } from "./load/file_loader.ts";
import { inMemoryTests } from "./load/in_memory.ts";
import { lifecycleTests } from "./load/lifecycle.ts";
import { oneBadTests } from "./load/one_bad.ts";
import { openingTests } from "./load/opening.ts";
import { memoryTests } from "./load/memory.ts";
import { optionTests } from "./load/options.ts";
import { parallelLoaderTests } from "./load/parallel_loader.ts";
import { readingTests } from "./load/reading.ts";
import { sliceTests } from "./load/slices.ts";
import { stressTests } from "./load/stress.ts";
import { tensorTests } from "./load/tensors.ts";
import { turnTests } from "./load/turns.ts";
import { unawaitedTests } from "./load/unawaited.ts";

/** Defines every test of the suite; select the engine before. */
export function loadSuite(engine: EngineName): void {
  const test = testsOf(engine);
  openingTests(test);
  tensorTests(test, engine);
  castTests(test, engine);
  sliceTests(test);
  readingTests(test, engine);
  dequantizeTests(test);
  lifecycleTests(test, engine);
  fileLoaderTests(test);
  parallelLoaderTests(test);
  inMemoryTests(test);
  optionTests(test);
  badFileTests(test);
  changedFileTests(test);
  oneBadTests(test, engine);
  memoryTests(test, engine);
  unawaitedTests(test, engine);
  turnTests(test, engine);
  stressTests(test, engine, 20);
}
