/**
 * Selects the engine.
 */
import { type LibraryState, openLibrary } from "../../../ffi/library.ts";
import type { Engine } from "../engine.ts";
import { useHostOperations } from "../host_operations.ts";
import { NativeEngine } from "./native_engine.ts";
import { PortableEngine } from "../portable_engine.ts";
import { availableSystemMemory } from "../../../ffi/variables.ts";
import { PortableFileSource } from "../../files/native/portable_file.ts";
import type { Source } from "../../files/source.ts";

/** The engine for the latest state of the library. */
let chosen: { readonly library: Promise<LibraryState>; readonly engine: Promise<Engine> } | undefined;

let wasNoticed = false;

/**
 * Returns the native engine if the shim is available, else the portable one, with one notice on stderr. Selects again
 * after the library becomes available.
 */
export function selectEngine(): Promise<Engine> {
  const library = openLibrary();
  if (chosen?.library !== library) chosen = { library, engine: library.then(engineOver) };
  return chosen.engine;
}

function engineOver(library: LibraryState): Engine {
  if (library.shim) {
    const engine = new NativeEngine(library.shim);
    useHostOperations(engine.operations);
    return engine;
  }
  const portable = portableEngine(library.reason);
  if (!wasNoticed) console.warn(`fastsafetensors: ${portable.notes[0]}`);
  wasNoticed = true;
  return portable;
}

/**
 * Makes the portable engine for Deno.
 *
 * @param reason why the native engine is not used
 */
export function portableEngine(reason: string, source: Source = new PortableFileSource()): PortableEngine {
  return new PortableEngine({ source, availableMemory: availableSystemMemory, reason });
}
