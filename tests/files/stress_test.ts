import { suite } from "../support/skip.ts";
import { missing, stress } from "./stress.ts";

stress(20, "portable", 21, "plain");
suite("random ends of loads and reads", "native", missing, () => {
  stress(20, "native", 22, "freed memory overwritten");
  stress(20, "3fs", 23, "freed memory overwritten");
});
