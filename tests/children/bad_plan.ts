/** Runs a plan whose only segment is in a file that the plan does not have: a misuse. */
import { openLibrary } from "../../ffi/library.ts";

const { shim } = await openLibrary();
const plan = new DataView(new ArrayBuffer(256 + 64 + 64 + 1)); // native/plan.h
plan.setUint32(0, 1, true); // segments
plan.setUint32(4, 1, true); // files
plan.setUint32(256 + 64 + 24, 7, true); // the segment's file
plan.setUint32(256 + 64 + 32, 1, true);
plan.setUint32(256 + 64 + 36, 1, true);
const keep = [null, null, null, null, null, null, null, null] as const;
console.log(await shim!.fst_lane_run(plan.buffer, 1, ...keep));
