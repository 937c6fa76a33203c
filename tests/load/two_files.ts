/** Tensors of two files that several tests write. */
import type { TensorSpec } from "../support/models.ts";

/** Tensors of the first file. */
export const FIRST: TensorSpec[] = [
  { name: "q", dtype: "F16", shape: [4, 6] },
  { name: "k", dtype: "F16", shape: [2, 6] },
  { name: "ids", dtype: "I32", shape: [5] },
];

/** Tensors of the second file. */
export const SECOND: TensorSpec[] = [
  { name: "v", dtype: "F16", shape: [4, 3] },
  { name: "none", dtype: "F16", shape: [4, 0] },
];
