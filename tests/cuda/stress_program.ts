/**
 * The stress test on this machine's GPUs, as a program that compute-sanitizer can watch. Argument: seconds. Prints
 * the numbers of rounds and of compared copies.
 */
import { doctor } from "../../src/doctor/mod.ts";
import { stressFor } from "./stress.ts";

const { cuda } = await doctor();
if (cuda.devices.length === 0) throw new Error(`There is no GPU: ${cuda.reason}`);
const { rounds, verified } = await stressFor(Number(Deno.args[0]), cuda.devices.length);
console.log(`${rounds} rounds, ${verified} copies compared`);
