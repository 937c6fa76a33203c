/**
 * One rank of a group: it compares its calls with those of the others before anything is moved, and says to the others
 * when it fails or leaves. It does not know how messages travel.
 */
import { DeviceError, type GroupError } from "../../base/errors.ts";
import { departure, differenceFailure, rankFailure, timeout, toldFailure } from "./call_failure.ts";
import { type CallKind, type CallRecord, describeCall, recordOf } from "./call_record.ts";
import { GroupHub, type GroupMessage, isPair } from "./hub.ts";
import type { Json } from "./process_group.ts";

/** How messages travel between the ranks of a group: those of one rank to another arrive in their order. */
export interface GroupLink {
  /** Sends a message to another rank; done when it is on its way. A rank that has gone takes no notice. */
  tell(rank: number, message: GroupMessage): Promise<void> | void;
  /** Hands over what has come, and what comes within microseconds unless this is done. */
  look(isDone: () => boolean): void;
  /** Hands over what comes as long as the result is not disposed; else that may wait until somebody looks. */
  listen(): Disposable;
  /** Takes note that the group is at its end. */
  fail(): void;
  /** Ends the connection after what has been said. */
  close(): Promise<void> | void;
}

/** How long, in milliseconds, rank 0 may take to say for whom it waits. */
const HURRY_MS = 2000;
/** How long, in milliseconds, after a rank has left the reason may take to arrive. */
const REASON_MS = 250;

/** A call that waits for the other ranks, or for the one that is its peer. */
interface Waiting {
  readonly record: CallRecord;
  readonly peer: number | undefined;
  readonly resolve: (values: readonly Json[]) => void;
  readonly reject: (failure: GroupError) => void;
  isDone: boolean;
  /** Runs when a rank has left before this call. */
  departure: ReturnType<typeof setTimeout> | undefined;
}

/** One rank of a group. Calls are made one after another. */
export class GroupControl {
  readonly rank: number;
  readonly size: number;
  /** How long, in seconds, a rank is waited for. */
  readonly timeoutSeconds: number;
  readonly #link: GroupLink;
  readonly #hub: GroupHub | undefined;
  readonly #pairs = new Map<number, Extract<GroupMessage, { type: "pair" }>>();
  /** How many calls of all ranks a rank had made when it left. */
  readonly #departures = new Map<number, number>();
  /** Why processes have ended. */
  readonly #reasons = new Map<number, string>();
  #completed = 0;
  #hasLeft = false;
  #waiting: Waiting | undefined;
  /** The call that is under way, or was the last. */
  #last: CallRecord | undefined;
  #moving: { readonly record: CallRecord; readonly cancel: () => void } | undefined;
  #failure: GroupError | undefined;

  constructor(rank: number, size: number, timeoutSeconds: number, link: GroupLink) {
    this.rank = rank;
    this.size = size;
    this.timeoutSeconds = timeoutSeconds;
    this.#link = link;
    if (rank === 0) this.#hub = new GroupHub(size, (to, message) => this.#tell(to, message));
  }

  /**
   * Compares what all ranks call, or, with a `peer`, what this rank and that one call. `lengths` is what the root of a
   * scatter has for each rank.
   *
   * @throws {GroupError} on all of them if they differ, or one has failed, left, or does not come
   */
  async meet(record: CallRecord, peer?: number, lengths: readonly number[] = []): Promise<void> {
    await this.#meet(record, peer, lengths, null);
  }

  /** Gathers one small value from each rank, in the order of their ranks. */
  async allGather(value: Json, label: string, kind: CallKind = "allGather"): Promise<Json[]> {
    return [...await this.#meet(recordOf(kind, this.rank, { label }), undefined, [], value)];
  }

  /**
   * Moves the bytes of a call on which the ranks have agreed. If the group fails meanwhile, `cancel` is called: a rank
   * that leaves has done its part.
   */
  async during<T>(record: CallRecord, cancel: () => void, move: () => Promise<T>): Promise<T> {
    using _listening = this.#link.listen();
    this.#moving = { record, cancel };
    if (this.look()) cancel();
    try {
      return await move();
    } finally {
      this.#moving = undefined;
    }
  }

  /** Why the group is at its end, if it is. */
  look(): GroupError | undefined {
    this.#link.look(() => true);
    return this.#failure;
  }

  /** Ends the group for all ranks. The first failure counts. */
  async fail(failure: GroupError): Promise<void> {
    if (this.#failure) return;
    this.#failure = failure;
    this.#settle((waiting) => waiting.reject(failure));
    this.#moving?.cancel();
    this.#link.fail();
    // Also what another rank has said: who has not heard of that one yet is not to blame this one when it ends.
    await this.#tellOthers({ type: "failed", rank: failure.rank, message: failure.message, goOn: false });
  }

  /** Whether a call is under way. */
  get isBusy(): boolean {
    return this.#waiting !== undefined || this.#moving !== undefined;
  }

  /** As `fail`, with an error of the library that messages go through. */
  async failBy(library: string, text: string): Promise<void> {
    if (!this.#last) return await this.fail(rankFailure(this.rank, text));
    const what = describeCall(this.#last);
    const cause = new DeviceError(`Cannot complete ${what}: ${text}`, { library });
    await this.fail(rankFailure(this.rank, `${what}: ${text}`, { cause }));
  }

  /** Whether this rank has left the group. */
  get hasLeft(): boolean {
    return this.#hasLeft;
  }

  /** Leaves the group. */
  async close(): Promise<void> {
    this.#hasLeft = true;
    await this.#tellOthers({ type: "left", completed: this.#completed });
    await this.#link.close();
  }

  /** Says at the end of the process why it ends (null: it has not failed), before nothing can be said any more. */
  end(reason: string | null): void {
    if (this.#failure) return;
    if (reason !== null) void this.fail(rankFailure(this.rank, reason));
    else if (this.#moving) void this.fail(departure(this.rank, this.#moving.record));
    else void this.#tellOthers({ type: "left", completed: this.#completed });
  }

  /** Takes what a rank says. */
  take(from: number, said: GroupMessage): void {
    switch (said.type) {
      case "call":
        return this.#hub?.call(from, said);
      case "hurry":
        return this.#hub?.hurry(said.seconds);
      case "done":
        this.#completed++;
        return this.#settle((waiting) => waiting.resolve(said.values));
      case "pair":
        this.#pairs.set(from, said);
        return this.#match();
      case "failed": {
        const failure = toldFailure(said.rank, said.message);
        if (!said.goOn) return void this.fail(failure);
        this.#completed++;
        return this.#settle((waiting) => waiting.reject(failure));
      }
      case "left":
        this.#departures.set(from, said.completed);
        return this.#mindDepartures();
    }
  }

  /** Takes note that a rank's process has ended, and why. */
  ended(rank: number, reason: string): void {
    this.#reasons.set(rank, reason);
    if (this.#departures.has(rank)) this.#mindDepartures();
    else void this.fail(rankFailure(rank, reason));
  }

  async #meet(
    record: CallRecord,
    peer: number | undefined,
    lengths: readonly number[],
    value: Json,
  ): Promise<readonly Json[]> {
    this.#last = record;
    this.#link.look(() => true);
    if (this.#failure) throw this.#failure;
    record = { ...record, sequence: peer === undefined ? this.#completed : 0 };
    const { promise, resolve, reject } = Promise.withResolvers<readonly Json[]>();
    const waiting = { record, peer, resolve, reject, isDone: false, departure: undefined } as Waiting;
    this.#waiting = waiting;
    if (peer === undefined) void this.#tell(0, { type: "call", record, lengths, value });
    else void this.#tell(peer, { type: "pair", record, completed: this.#completed });
    this.#match();
    this.#mindDepartures();
    if (!waiting.isDone) this.#link.look(() => waiting.isDone);
    return waiting.isDone ? await promise : await this.#wait(waiting, promise);
  }

  /** Waits for other ranks, and gives them up after a while. */
  async #wait<T>({ record, peer }: Waiting, promise: Promise<T>): Promise<T> {
    using _listening = this.#link.listen();
    const seconds = this.timeoutSeconds;
    const giveUp = (rank: number) => void this.fail(timeout(rank, `${rank}`, record, seconds));
    let timer = setTimeout(() => {
      if (peer !== undefined) return giveUp(peer);
      timer = setTimeout(() => giveUp(0), HURRY_MS); // rank 0 knows who is missing, and is asked to say so
      void this.#tell(0, { type: "hurry", seconds });
    }, seconds * 1000);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
    }
  }

  #settle(how: (waiting: Waiting) => void): void {
    const waiting = this.#waiting;
    if (!waiting) return;
    this.#waiting = undefined;
    waiting.isDone = true;
    clearTimeout(waiting.departure);
    how(waiting);
  }

  /** Compares with a rank that sends to this one or receives from it: in a call of all ranks there is none such. */
  #match(): void {
    const waiting = this.#waiting;
    if (!waiting) return;
    for (const [rank, { record, completed }] of this.#pairs) {
      // What follows a call of all ranks that is not done here is for later.
      if ((waiting.peer ?? rank) !== rank || completed !== this.#completed) continue;
      this.#pairs.delete(rank);
      if (waiting.peer !== undefined && isPair(waiting.record, record)) {
        return this.#settle((one) => one.resolve([]));
      }
      return void this.fail(differenceFailure(waiting.record, record));
    }
  }

  /** Ends a call before which a rank has left; if the reason is not known, after a while in which it may come. */
  #mindDepartures(): void {
    const waiting = this.#waiting;
    if (!waiting) return;
    for (const [rank, completed] of this.#departures) {
      if (waiting.peer === undefined ? completed > this.#completed : rank !== waiting.peer) continue;
      const reason = this.#reasons.get(rank);
      if (reason !== undefined) return void this.fail(rankFailure(rank, reason));
      waiting.departure ??= setTimeout(() => {
        if (this.#waiting === waiting) void this.fail(departure(rank, waiting.record));
      }, REASON_MS);
    }
  }

  #tell(rank: number, message: GroupMessage): Promise<void> | void {
    return rank === this.rank ? this.take(rank, message) : this.#link.tell(rank, message);
  }

  async #tellOthers(message: GroupMessage): Promise<void> {
    const told = [];
    for (let rank = 0; rank < this.size; rank++) {
      if (rank !== this.rank) told.push(this.#link.tell(rank, message));
    }
    await Promise.all(told);
  }
}
