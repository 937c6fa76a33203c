/**
 * A program for save/kill_long_test.ts: saves a scene with the faults of its third argument, with the build that
 * can be made to fail. Arguments: a folder, the scene's number, the faults.
 */
import { openAdded } from "../support/test_library.ts";
import { act, SCENES } from "../save/scenes.ts";

const [folder, scene, faults] = Deno.args as [string, string, string];
openAdded(Deno.env.get("FASTSAFETENSORS_LIB")!).setFaults(faults);
console.log("saving");
await act(folder, SCENES[Number(scene)]!);
