/**
 * Prints the libraries of CUDA that this process finds: the part of doctor()'s report about CUDA.
 */
import { doctor } from "../../src/doctor/mod.ts";

console.log(JSON.stringify((await doctor()).cuda));
