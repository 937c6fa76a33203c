import { fuzzCheckpoints } from "./fuzz.ts";

fuzzCheckpoints(10_000, 1);
