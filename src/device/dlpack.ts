/**
 * Exports tensors in host memory by DLPack. This needs the native library; the module that loads it registers the
 * function.
 */
import { DeviceError } from "../base/errors.ts";
import type { DType } from "../base/dtype.ts";
import { quote } from "../base/text.ts";

/** Options of `toDLPack`. */
export interface DLPackOptions {
  /** Makes a DLManagedTensorVersioned (DLPack 1.0, capsule "dltensor_versioned"). Default: a DLManagedTensor. */
  versioned?: boolean;
}

/** A tensor to export. */
export interface ExportedTensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Makes a DLPack tensor; returns its address. */
export type DLPackExport = (tensor: ExportedTensor, options: DLPackOptions) => Promise<bigint>;

let registered: DLPackExport | undefined;

/** Registers the function that exports tensors in host memory. */
export function useDLPack(exportTensor: DLPackExport): void {
  registered = exportTensor;
}

/**
 * Makes a DLPack tensor over the memory of a tensor.
 *
 * @throws {DeviceError} if no function is registered
 */
export async function exportHost(tensor: ExportedTensor, options: DLPackOptions): Promise<bigint> {
  if (registered) return await registered(tensor, options);
  const message = `Cannot give tensor ${quote(tensor.name)} by DLPack: that needs the native library, ` +
    "which is for Deno: import the package's main module there";
  throw new DeviceError(message, { library: "fastsafetensors" });
}
