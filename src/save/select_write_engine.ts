/** Selects the engine that writes files: the native library, or Deno alone. */
import { openLibrary } from "../../ffi/library.ts";
import { NativeWriteEngine } from "./native_write_engine.ts";
import { PortableWriteEngine } from "./portable_write_engine.ts";
import type { WriteEngine } from "./write_engine.ts";

/** Returns the native engine if the library is available, else the portable one. */
export async function selectWriteEngine(): Promise<WriteEngine> {
  const { shim } = await openLibrary();
  return shim ? new NativeWriteEngine(shim) : new PortableWriteEngine();
}
