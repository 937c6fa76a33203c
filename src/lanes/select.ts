/**
 * Choosing the engine, once per isolate.
 */
import { openLibrary } from "../../ffi/library.ts";
import type { Engine } from "./engine.ts";
import { NativeEngine } from "./native_engine.ts";
import { PortableEngine } from "./portable_engine.ts";

let engine: Promise<Engine> | undefined;

/** The native engine where the shim is to be had, else the portable one, with one notice on stderr. */
export function selectEngine(): Promise<Engine> {
  engine ??= openLibrary().then((library): Engine => {
    if (library.shim) return new NativeEngine(library.shim);
    const portable = new PortableEngine(library.reason);
    console.warn(`fastsafetensors: ${portable.notes[0]}`);
    return portable;
  });
  return engine;
}
