/**
 * What keeps ranks in step while something else moves their bytes.
 */
import type { GroupError } from "../base/errors.ts";
import type { CallRecord } from "./call_record.ts";
import type { Json } from "./process_group.ts";

/** The ranks of a group, and short messages between them. Calls are made one after another. */
export interface GroupControl {
  readonly rank: number;
  readonly size: number;
  /** How long, in seconds, a rank is waited for. */
  readonly timeoutSeconds: number;
  /**
   * Compares what all ranks call, or, with a `peer`, what this rank and that one call. `lengths` is what the root of a
   * scatter has for each rank.
   *
   * @throws {GroupError} on all of them if they differ, or one has failed, left, or does not come
   */
  meet(record: CallRecord, peer?: number, lengths?: readonly number[]): Promise<void>;
  /** Gathers one small value from each rank. */
  allGather(value: Json, label: string): Promise<Json[]>;
  /** Whether another rank has failed since; to be asked while bytes move. */
  look(): GroupError | undefined;
  /** Tells the other ranks that the group is at its end. */
  fail(failure: GroupError): Promise<void>;
  /** Leaves. */
  close(): Promise<void>;
}
