/**
 * The ranks that load together.
 */

/** A group of processes that take part in a load, each with its own rank. */
export interface ProcessGroup {
  /** This process's number, from 0. */
  readonly rank: number;
  /** How many there are. */
  readonly size: number;
}

/** This process alone: rank 0 of 1. The default; needs nothing. */
export class SingleGroup implements ProcessGroup {
  /** Always 0. */
  readonly rank = 0;
  /** Always 1. */
  readonly size = 1;
}
