import { stressTest } from "./stress.ts";
import { useCuda } from "./support.ts";

stressTest(await useCuda(), 20);
