import { useNativeEngine } from "../support/engine.ts";
import { suite } from "../support/skip.ts";
import { saveSuite } from "./suite.ts";

suite("The save suite on the native engine", "native", await useNativeEngine(), () => saveSuite("native"));
