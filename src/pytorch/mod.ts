/**
 * PyTorch checkpoints: opened like a safetensors model, or converted to safetensors files. The pickle is not run.
 *
 * @example Convert
 * ```ts ignore
 * import { convertPyTorch } from "@x/fastsafetensors/pytorch";
 *
 * await convertPyTorch("pytorch_model.bin", "model.safetensors", { validate: true });
 * ```
 *
 * @module
 */
export type { CheckpointOptions } from "./checkpoint.ts";
export { type ConvertOptions, convertPyTorch, type ConvertReport } from "./convert.ts";
export type { CheckpointLimits } from "./errors.ts";
export { openPyTorch } from "./open.ts";
export type { SkippedValue } from "./flatten.ts";
