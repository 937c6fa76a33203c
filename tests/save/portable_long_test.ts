import { usePortableEngine } from "../support/engine.ts";
import { saveSuite } from "./suite.ts";

await usePortableEngine();
saveSuite("portable");
