/** Tensors that the tests of the doors write. */
import type { TensorSpec } from "../support/models.ts";

/** Of a first file. */
export const FIRST: TensorSpec[] = [
  { name: "q", dtype: "F16", shape: [4, 6] },
  { name: "k", dtype: "F16", shape: [2, 6] },
  { name: "ids", dtype: "I32", shape: [5] },
];

/** Of a second file. */
export const SECOND: TensorSpec[] = [
  { name: "v", dtype: "F16", shape: [4, 3] },
  { name: "none", dtype: "F16", shape: [4, 0] },
];
