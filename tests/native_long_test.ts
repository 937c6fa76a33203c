/**
 * The C tests with assertions, under the sanitizers, and for the other processor under qemu-user.
 */
import { cTests } from "./native/c_tests.ts";
import { compiler, crossTools } from "./support/compiler.ts";
import { sanitizerFlags, SANITIZERS } from "./support/objects.ts";
import { suite } from "./support/skip.ts";

const { path: cc, missing } = await compiler();
const cross = crossTools();

suite("the C tests", "native", missing, () => {
  cTests("debug build", ["-O1", "-DFST_DEBUG"], cc);
  for (const sanitizer of SANITIZERS) cTests(`${sanitizer} sanitizer`, sanitizerFlags(sanitizer), cc);
});

suite("the C tests for another processor", "cross", cross.missing, () => {
  cTests(`${cross.arch} under qemu-user`, ["-O2"], cross.compiler, cross.runner);
});
