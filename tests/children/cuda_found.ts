/**
 * Prints which libraries of CUDA this process finds: what doctor() says of CUDA.
 */
import { doctor } from "../../src/doctor/mod.ts";

console.log(JSON.stringify((await doctor()).cuda));
