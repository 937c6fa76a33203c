import { loadSuite } from "./load_suite.ts";
import { usePortableEngine } from "./support/engine.ts";

await usePortableEngine();
loadSuite("portable");
