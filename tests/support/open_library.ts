/**
 * Loaded before doc tests (`--preload`): the library stays open after its first use, and the resource sanitizer would
 * report a leak.
 */
import { openLibrary } from "../../ffi/library.ts";

await openLibrary();
