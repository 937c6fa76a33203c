import { testsOf } from "./load/context.ts";
import { stressTests } from "./load/stress.ts";
import { usePortableEngine } from "./support/engine.ts";

await usePortableEngine();
stressTests(testsOf("portable"), "portable", 400);
