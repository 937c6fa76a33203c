/**
 * What writes files: the shim, or Deno alone.
 */
import { openLibrary } from "../../ffi/library.ts";
import { NativeWriteEngine } from "./native_write_engine.ts";
import { PortableWriteEngine } from "./portable_write_engine.ts";
import type { WriteEngine } from "./write_engine.ts";

/** The engine over the shim where there is one, else over Deno. */
export async function selectWriteEngine(): Promise<WriteEngine> {
  const { shim } = await openLibrary();
  return shim ? new NativeWriteEngine(shim) : new PortableWriteEngine();
}
