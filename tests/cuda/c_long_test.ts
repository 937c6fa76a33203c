/**
 * The C tests of CUDA under the sanitizers.
 */
import { compiler } from "../support/compiler.ts";
import { sanitizerFlags, SANITIZERS } from "../support/objects.ts";
import { suite } from "../support/skip.ts";
import { cTests } from "./c_tests.ts";

const { path: cc, missing } = await compiler();

suite("the C tests of CUDA", "cuda", missing, () => {
  for (const sanitizer of SANITIZERS) cTests(`${sanitizer} sanitizer`, sanitizerFlags(sanitizer), cc);
});
