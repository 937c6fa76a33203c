/**
 * Choosing the engine.
 */
import { type LibraryState, openLibrary } from "../../../ffi/library.ts";
import type { Engine } from "../engine.ts";
import { type HostOperations, LoopOperations } from "./host_operations.ts";
import { NativeEngine } from "./native_engine.ts";
import { PortableEngine } from "../portable_engine.ts";

/** The engine over the library's latest state. */
let chosen: { readonly library: Promise<LibraryState>; readonly engine: Promise<Engine> } | undefined;

let wasNoticed = false;

/**
 * The native engine where the shim is to be had, else the portable one, with one notice on stderr. It is chosen anew
 * when the library is found after all.
 */
export function selectEngine(): Promise<Engine> {
  const library = openLibrary();
  if (chosen?.library !== library) chosen = { library, engine: library.then(engineOver) };
  return chosen.engine;
}

function engineOver(library: LibraryState): Engine {
  if (library.shim) {
    const engine = new NativeEngine(library.shim);
    operations = engine.operations;
    return engine;
  }
  const portable = new PortableEngine(library.reason);
  if (!wasNoticed) console.warn(`fastsafetensors: ${portable.notes[0]}`);
  wasNoticed = true;
  return portable;
}

let operations: HostOperations = new LoopOperations();

/** What tensors without a model use: the shim where a load has opened it already, which nothing is asked for here. */
export function hostOperations(): HostOperations {
  return operations;
}
