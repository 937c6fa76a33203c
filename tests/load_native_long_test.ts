import { testsOf } from "./load/context.ts";
import { stressTests } from "./load/stress.ts";
import { useNativeEngine } from "./support/engine.ts";
import { suite } from "./support/skip.ts";

suite("Loads under stress on the native engine", "native", await useNativeEngine(), () => {
  stressTests(testsOf("native"), "native", 400);
});
