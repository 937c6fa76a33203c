import { loadSuite } from "./load_suite.ts";
import { useNativeEngine } from "./support/engine.ts";
import { suite } from "./support/skip.ts";

suite("The load suite on the native engine", "native", await useNativeEngine(), () => loadSuite("native"));
