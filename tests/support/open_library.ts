/**
 * Loaded before doc tests (`--preload`): the library that the first of them would open stays open, and the resource
 * sanitizer would take that for a leak.
 */
import { openLibrary } from "../../ffi/library.ts";

await openLibrary();
