/**
 * The load suite for typed arrays, over GPUBuffers.
 */
import { useApi } from "../load/api_in_use.ts";
import { hostViewOf } from "../load/host_view.ts";
import { loadSuite } from "../load_suite.ts";
import { suite } from "../support/skip.ts";
import { missing } from "./support.ts";

useApi(hostViewOf("webgpu"));

suite("The load suite on WebGPU", "webgpu", missing, () => loadSuite("webgpu"));
