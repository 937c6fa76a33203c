/**
 * Getting ready before the first load.
 */
import { selectEngine } from "./lanes/select.ts";

/**
 * Finds the native library, or builds it, so that the first load does not have to.
 *
 * @returns which engine will load: "native", or "portable" where there is no library
 * @throws {Error} if `FASTSAFETENSORS_LIB` names a library that cannot be used
 */
export async function prepare(): Promise<"native" | "portable"> {
  return (await selectEngine()).name;
}
