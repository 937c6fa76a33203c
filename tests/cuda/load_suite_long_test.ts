/**
 * The load suite for typed arrays, over device memory.
 */
import { useApi } from "../load/api_in_use.ts";
import { hostViewOf } from "../load/host_view.ts";
import { loadSuite } from "../load_suite.ts";
import { assertNothingLeft, useCuda } from "./support.ts";
import { suite } from "../support/skip.ts";

const machine = await useCuda();
useApi(hostViewOf("cuda"));

suite("The load suite on a CUDA device", "cuda", machine.missing, () => {
  loadSuite("cuda");
  Deno.test("the load suite frees all device memory", () => assertNothingLeft(machine));
});
