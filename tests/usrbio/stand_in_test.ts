import { compiler } from "../support/compiler.ts";
import { suite } from "../support/skip.ts";
import { selfTest } from "./self.ts";

const { missing } = await compiler();

suite("The stand-in for 3FS", "native", missing, () => selfTest("plain", []));
