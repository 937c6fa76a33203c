/**
 * Rank 0's part in a group over TCP: all ranks talk to it, it compares what they call and passes on what one says to
 * the others. A process that ends closes its connection, so that everyone hears of it at once.
 */
import type { GroupError } from "../base/errors.ts";
import { differenceFailure, rankFailure, timeout } from "./call_failure.ts";
import type { CallRecord } from "./call_record.ts";
import type { Json } from "./process_group.ts";

/** What a rank tells the hub. */
export type ToHub =
  | {
    readonly type: "call";
    readonly record: CallRecord;
    readonly lengths: readonly number[];
    readonly value: Json;
  }
  | { readonly type: "pair"; readonly to: number; readonly record: CallRecord }
  | { readonly type: "hurry"; readonly seconds: number }
  | { readonly type: "failed"; readonly rank: number; readonly message: string }
  | { readonly type: "left"; readonly completed: number };

/** What the hub tells a rank. */
export type FromHub =
  | { readonly type: "done"; readonly values: readonly Json[] }
  | { readonly type: "pair"; readonly record: CallRecord }
  | { readonly type: "failed"; readonly rank: number; readonly message: string; readonly goOn: boolean }
  | { readonly type: "left"; readonly rank: number; readonly completed: number };

type Call = Extract<ToHub, { type: "call" }>;

/** The middle of the group. */
export class TcpHub {
  readonly #size: number;
  readonly #tell: (rank: number, message: FromHub) => void;
  readonly #calls = new Map<number, Call>();
  readonly #left = new Set<number>();

  constructor(size: number, tell: (rank: number, message: FromHub) => void) {
    this.#size = size;
    this.#tell = tell;
  }

  /** Takes what a rank says. */
  take(rank: number, said: ToHub): void {
    switch (said.type) {
      case "call":
        this.#calls.set(rank, said);
        if (this.#calls.size === this.#size) this.#judge();
        return;
      case "pair":
        this.#tell(said.to, { type: "pair", record: said.record });
        return;
      case "hurry":
        this.#nameMissing(said.seconds);
        return;
      case "failed":
        this.#tellOthers(rank, { ...said, goOn: false });
        return;
      case "left":
        this.#left.add(rank);
        this.#tellOthers(rank, { type: "left", rank, completed: said.completed });
        return;
    }
  }

  /** Takes note that a rank's connection has ended. */
  lost(rank: number): void {
    if (this.#left.has(rank)) return;
    this.#left.add(rank);
    const { message } = rankFailure(rank, "its process has ended");
    this.#tellOthers(rank, { type: "failed", rank, message, goOn: false });
  }

  #judge(): void {
    const calls = Array.from({ length: this.#size }, (_, rank) => this.#calls.get(rank)!);
    this.#calls.clear();
    const failure = compare(calls);
    if (!failure) {
      this.#tellOthers(-1, { type: "done", values: calls.map((call) => call.value) });
      return;
    }
    const goOn = calls.every((call) => call.record.kind === "agree");
    this.#tellOthers(-1, { type: "failed", rank: failure.rank, message: failure.message, goOn });
  }

  /** A rank's time is up: if rank 0 waits for the same call, it knows who is missing. */
  #nameMissing(seconds: number): void {
    const own = this.#calls.get(0);
    if (!own) return;
    const missing = Array.from({ length: this.#size }, (_, rank) => rank).filter((rank) =>
      !this.#calls.has(rank)
    );
    const { rank, message } = timeout(missing[0] ?? -1, missing.join(", "), own.record, seconds);
    this.#tellOthers(-1, { type: "failed", rank, message, goOn: false });
  }

  #tellOthers(rank: number, message: FromHub): void {
    for (let other = 0; other < this.#size; other++) if (other !== rank) this.#tell(other, message);
  }
}

/** Whether two ranks call the same: all but what each has or expects for itself. */
function isSame(a: CallRecord, b: CallRecord): boolean {
  return a.kind === b.kind && a.root === b.root && a.tag === b.tag && a.sequence === b.sequence &&
    a.bytes === b.bytes && a.label === b.label;
}

/** Why the ranks cannot go on with these calls; undefined if they can. */
function compare(calls: readonly Call[]): GroupError | undefined {
  const failed = calls.find((call) => call.record.failure !== null)?.record;
  if (failed) return rankFailure(failed.rank, failed.failure!); // worth more than any difference, which may come from it
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

/** Whether two ranks, of which one sends and one receives, call what fits together. */
export function isPair(a: CallRecord, b: CallRecord): boolean {
  return a.kind !== b.kind && isSame(a, { ...b, kind: a.kind });
}
