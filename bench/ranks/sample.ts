/** One run of a contender on all of its ranks. */
export interface RankSample {
  /** Of the slowest rank. */
  readonly seconds: number;
  /** Bytes of tensors a second, summed over the ranks. */
  readonly bytesPerSecond?: number;
  /** Bytes read from files / bytes of the rank's share, of the rank that read the most for it. */
  readonly overread?: number;
  /** The peak resident memory of a rank, without its tensors and its memory before, in bytes. */
  readonly beyondTensors?: number;
}
