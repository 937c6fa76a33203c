/**
 * Definitions that the files of the load suite share.
 */
import { openDescriptors } from "../support/process.ts";
import { tempFolder } from "../support/models.ts";

/** The engines that the suite tests. */
export type EngineName = "native" | "portable" | "cuda" | "3fs" | "webgpu";

/** Defines a test with its own folder; the test must close all files in it. */
export type DefineTest = (name: string, body: (folder: string) => Promise<void> | void) => void;

/** Defines tests for one engine. */
export function testsOf(engine: EngineName): DefineTest {
  return (name, body) =>
    Deno.test(`${name} [${engine}]`, async () => {
      await using folder = await tempFolder();
      await body(folder.path);
      const left = openDescriptors(folder.path);
      if (left > 0) throw new Error(`${left} descriptors of the test's files are still open`);
    });
}
