import { SYMBOLS } from "../../ffi/symbols.ts";

/** The names of the functions that the native library exports; TypeScript may know one by several names. */
export const EXPORTED_NAMES: readonly string[] = [
  ...new Set(Object.entries(SYMBOLS).map(([key, symbol]) => "name" in symbol ? symbol.name : key)),
];
