/**
 * The classes of the Python package fastsafetensors, for programs that were written for it: add files, copy them to a
 * device, get tensors. New programs use `fastsafeOpen`.
 *
 * @module
 */
export { FilesBuffer } from "./files_buffer.ts";
export { type LoaderOptions, SafeTensorsFileLoader } from "./loader.ts";
export { ParallelLoader, type ParallelLoaderOptions } from "./parallel_loader.ts";
