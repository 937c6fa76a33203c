/**
 * A program of its own, for save/kill_long_test.ts: saves a scene with the faults of its third argument, on the build that
 * can be made to fail. Arguments: a folder, the scene's number, the faults.
 */
import { openLibrary } from "../../ffi/library.ts";
import { act, SCENES } from "../save/scenes.ts";

const [folder, scene, faults] = Deno.args as [string, string, string];
const { shim } = await openLibrary();
shim!.fst_fault_set!(new TextEncoder().encode(`${faults}\0`));
console.log("saving");
await act(folder, SCENES[Number(scene)]!);
