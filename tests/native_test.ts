import { cTests } from "./native/c_tests.ts";
import { compiler } from "./support/compiler.ts";
import { suite } from "./support/skip.ts";

const { path: cc, missing } = await compiler();

suite("the C tests", "native", missing, () => cTests("plain", ["-O2"], cc));
