import { compiler } from "../support/compiler.ts";
import { suite } from "../support/skip.ts";
import { cTests } from "./c_tests.ts";

const { path: cc, missing } = await compiler();

suite("the C tests of CUDA", "cuda", missing, () => cTests("plain", ["-O2"], cc));
