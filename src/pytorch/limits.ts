/** What reading a checkpoint may cost before it is refused as hostile. */

/**
 * Bounds on the work and memory that a checkpoint may ask for; all of them can be raised for a file one
 * trusts.
 */
export interface CheckpointLimits {
  /** The longest pickle in bytes, the one that describes the tensors; default 64 MiB. */
  maxPickleBytes?: number;
  /**
   * The most opcodes of that pickle; default 4,194,304, about 140,000 tensors. An opcode makes at most one
   * small object, so this bounds the memory too: to some 700 MB where a file is made to waste it.
   */
  maxOpcodes?: number;
  /** The longest string in bytes; default 16 MiB. */
  maxStringBytes?: number;
  /** The deepest nesting of containers, and of MARK opcodes; default 256. */
  maxNesting?: number;
  /**
   * The most tensors, other values and containers met in the state dict, where one that is shared counts as
   * often as it is met; default 1,048,576.
   */
  maxValues?: number;
  /** The most entries of a zip archive; default 262,144. */
  maxEntries?: number;
  /**
   * A tensor may be larger than its storage, by dimensions of stride 0 and other overlaps: up to 64 times the
   * storage's bytes, or up to this many bytes where that is more; default 1 GiB. The same holds for all
   * tensors together against the size of the file.
   */
  maxExpandedBytes?: number;
}

/** The defaults of {@linkcode CheckpointLimits}, where `limits` leaves them open. */
export function checkpointLimits(limits: CheckpointLimits): Required<CheckpointLimits> {
  const complete = {
    maxPickleBytes: limits.maxPickleBytes ?? 64 * 2 ** 20,
    maxOpcodes: limits.maxOpcodes ?? 2 ** 22,
    maxStringBytes: limits.maxStringBytes ?? 16 * 2 ** 20,
    maxNesting: limits.maxNesting ?? 256,
    maxValues: limits.maxValues ?? 2 ** 20,
    maxEntries: limits.maxEntries ?? 2 ** 18,
    maxExpandedBytes: limits.maxExpandedBytes ?? 2 ** 30,
  };
  for (const [name, value] of Object.entries(complete)) {
    if (!(value >= 0)) throw new RangeError(`Cannot use ${name}: a number from 0 expected, ${value} given`);
  }
  return complete;
}
