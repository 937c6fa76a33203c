import { fuzzCheckpoints } from "./fuzz.ts";

fuzzCheckpoints(100_000, 20260);
