/**
 * Rank 0's part: it compares the calls of all ranks, so it knows which ranks are missing.
 */
import type { GroupError } from "../../base/errors.ts";
import { differenceFailure, rankFailure, timeout } from "./call_failure.ts";
import type { CallRecord } from "./call_record.ts";
import type { Json } from "../../base/process_group.ts";

/** A message from one rank to another. */
export type GroupMessage =
  /** To rank 0: the sender's call, the root's lengths of a scatter, and a value to gather. */
  | {
    readonly type: "call";
    readonly record: CallRecord;
    readonly lengths: readonly number[];
    readonly value: Json;
  }
  /** To rank 0: the sender's time is up. */
  | { readonly type: "hurry"; readonly seconds: number }
  /** From rank 0: all make the same call; the values of all. */
  | { readonly type: "done"; readonly values: readonly Json[] }
  /** Between a rank that sends and one that receives; `completed` calls of all ranks come before. */
  | { readonly type: "pair"; readonly record: CallRecord; readonly completed: number }
  /** The call has failed because of a rank. The group has failed too, unless `goOn` is true. */
  | {
    readonly type: "failed";
    readonly rank: number;
    readonly message: string;
    readonly goOn: boolean;
  }
  /** The sender has left after `completed` calls of all ranks. */
  | { readonly type: "left"; readonly completed: number }
  /** The process of the sender has ended. */
  | { readonly type: "ended" };

type Call = Extract<GroupMessage, { type: "call" }>;

/** The calls of all ranks. */
export class GroupHub {
  readonly #size: number;
  readonly #tell: (rank: number, message: GroupMessage) => void;
  readonly #calls = new Map<number, Call>();

  /** `tell` reaches every rank, this one included. */
  constructor(size: number, tell: (rank: number, message: GroupMessage) => void) {
    this.#size = size;
    this.#tell = tell;
  }

  /** Takes the call of a rank. The last call is followed by an answer to all. */
  call(rank: number, said: Call): void {
    this.#calls.set(rank, said);
    if (this.#calls.size < this.#size) return;
    const calls = Array.from({ length: this.#size }, (_, rank) => this.#calls.get(rank)!);
    this.#calls.clear();
    const failure = compare(calls);
    if (!failure) return this.#answer({ type: "done", values: calls.map((call) => call.value) });
    const { rank: blamed, message } = failure;
    const goOn = calls.every(({ record }) => record.kind === "agree");
    this.#answer({ type: "failed", rank: blamed, message, goOn });
  }

  /** A rank's time is up: rank 0 names the missing ranks if it waits for the same call. */
  hurry(seconds: number): void {
    const own = this.#calls.get(0);
    if (!own) return;
    const missing = Array.from({ length: this.#size }, (_, rank) => rank).filter((rank) => {
      return !this.#calls.has(rank);
    });
    const { rank, message } = timeout(missing[0] ?? -1, missing.join(", "), own.record, seconds);
    this.#answer({ type: "failed", rank, message, goOn: false });
  }

  /** Answers rank 0 last, as its next step may end the group. */
  #answer(message: GroupMessage): void {
    for (let rank = this.#size - 1; rank >= 0; rank--) this.#tell(rank, message);
  }
}

/** Whether two ranks make the same call. Bytes that differ by rank are not compared. */
function isSame(a: CallRecord, b: CallRecord): boolean {
  return a.kind === b.kind && a.root === b.root && a.tag === b.tag && a.sequence === b.sequence &&
    a.bytes === b.bytes && a.label === b.label && a.digest === b.digest;
}

/** Why the ranks cannot go on with these calls; undefined if they can. */
function compare(calls: readonly Call[]): GroupError | undefined {
  const failed = calls.find((call) => call.record.failure !== null)?.record;
  if (failed) return rankFailure(failed.rank, failed.failure!); // reported before any difference, which it may have caused
  const first = calls[0]!.record;
  const other = calls.find((call) => !isSame(call.record, first));
  if (other) return differenceFailure(first, other.record);
  if (first.kind !== "scatter") return undefined;
  const { record: root, lengths } = calls[first.root]!;
  const short = calls.findIndex(({ record }) => record.ownBytes !== lengths[record.rank]);
  return short < 0
    ? undefined
    : differenceFailure({ ...root, ownBytes: lengths[short]! }, calls[short]!.record);
}

/** Whether the calls of a sender and a receiver match. */
export function isPair(a: CallRecord, b: CallRecord): boolean {
  return a.kind !== b.kind && isSame(a, { ...b, kind: a.kind });
}
