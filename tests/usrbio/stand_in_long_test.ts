import { compiler } from "../support/compiler.ts";
import { sanitizerFlags, SANITIZERS } from "../support/objects.ts";
import { suite } from "../support/skip.ts";
import { selfTest } from "./self.ts";

const { missing } = await compiler();

suite("The stand-in for 3FS under sanitizers", "native", missing, () => {
  for (const sanitizer of SANITIZERS) selfTest(`${sanitizer} sanitizer`, sanitizerFlags(sanitizer));
});
