/**
 * What a user can say of a tensor that goes to another library by DLPack.
 */

/** Options of `toDLPack`. */
export interface DLPackOptions {
  /** Makes a DLManagedTensorVersioned (DLPack 1.0, capsule "dltensor_versioned"). Default: a DLManagedTensor. */
  versioned?: boolean;
}
