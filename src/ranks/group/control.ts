/**
 * One rank of a group: it compares its calls with those of the others before bytes move, and tells the others when it fails
 * or leaves. The transport of messages is a `GroupLink`'s.
 */
import { DeviceError, type GroupError } from "../../base/errors.ts";
import { departure, differenceFailure, rankFailure, receivedFailure, timeout } from "./call_failure.ts";
import { type CallKind, type CallRecord, describeCall, recordOf } from "./call_record.ts";
import { GroupHub, type GroupMessage, isPair } from "./hub.ts";
import type { Json } from "./process_group.ts";

/** Transports messages between the ranks of a group. Messages from one rank to another arrive in order. */
export interface GroupLink {
  /** Sends a message to another rank; resolves when the message is on its way. A rank that has ended ignores it. */
  tell(rank: number, message: GroupMessage): Promise<void> | void;
  /** Delivers messages that have arrived, and those that arrive within microseconds unless `isDone()` is true. */
  look(isDone: () => boolean): void;
  /** Delivers messages as they arrive until the result is disposed. Without it they are delivered at the next look. */
  listen(): Disposable;
  /** Notes that the group has ended. */
  fail(): void;
  /** Ends the connection after all earlier messages. */
  close(): Promise<void> | void;
}

/** How long, in milliseconds, rank 0 may take to name the ranks that are missing. */
const HURRY_MS = 2000;
/** How long, in milliseconds, the reason may take to arrive after a rank has left. */
const REASON_MS = 250;

/** A call that waits for the other ranks, or for the one that is its peer. */
interface Waiting {
  readonly record: CallRecord;
  readonly peer: number | undefined;
  readonly resolve: (values: readonly Json[]) => void;
  readonly reject: (failure: GroupError) => void;
  isDone: boolean;
  /** Timer that runs when a rank has left before this call. */
  departure: ReturnType<typeof setTimeout> | undefined;
}

/** One rank of a group. Calls are made one after another. */
export class GroupControl {
  readonly rank: number;
  readonly size: number;
  /** How long, in seconds, a call waits for a rank. */
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
  /** The current call, or the last one. */
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

  /** Why the group has ended; undefined if it has not. */
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
    // Another rank's failure is passed on too: a rank that has not received it yet must not blame this one.
    await this.#tellOthers({ type: "failed", rank: failure.rank, message: failure.message, goOn: false });
  }

  /** Whether a call is in progress. */
  get isBusy(): boolean {
    return this.#waiting !== undefined || this.#moving !== undefined;
  }

  /** Fails with an error of the library that transports messages. */
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

  /** Sends, at the end of the process, why it ends (null: it has not failed). */
  end(reason: string | null): void {
    if (this.#failure) return;
    if (reason !== null) void this.fail(rankFailure(this.rank, reason));
    else if (this.#moving) void this.fail(departure(this.rank, this.#moving.record));
    else void this.#tellOthers({ type: "left", completed: this.#completed });
  }

  /** Handles a message of a rank. */
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
        const failure = receivedFailure(said.rank, said.message);
        if (!said.goOn) return void this.fail(failure);
        this.#completed++;
        return this.#settle((waiting) => waiting.reject(failure));
      }
      case "left":
        this.#departures.set(from, said.completed);
        return this.#mindDepartures();
      case "ended":
        if (!this.#departures.has(from)) this.ended(from, "its process has ended");
    }
  }

  /** Notes that a rank's process has ended, and why. */
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

  /** Waits for other ranks until the time is up. */
  async #wait<T>({ record, peer }: Waiting, promise: Promise<T>): Promise<T> {
    using _listening = this.#link.listen();
    const seconds = this.timeoutSeconds;
    const giveUp = (rank: number) => void this.fail(timeout(rank, `${rank}`, record, seconds));
    let timer = setTimeout(() => {
      if (peer !== undefined) return giveUp(peer);
      timer = setTimeout(() => giveUp(0), HURRY_MS); // rank 0 knows the missing ranks and is asked for them
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

  /** Compares with a rank that sends to this one or receives from it. A call of all ranks has no such rank. */
  #match(): void {
    const waiting = this.#waiting;
    if (!waiting) return;
    for (const [rank, { record, completed }] of this.#pairs) {
      // A message that follows a call of all ranks which has not ended here is for later.
      if ((waiting.peer ?? rank) !== rank || completed !== this.#completed) continue;
      this.#pairs.delete(rank);
      if (waiting.peer !== undefined && isPair(waiting.record, record)) {
        return this.#settle((one) => one.resolve([]));
      }
      return void this.fail(differenceFailure(waiting.record, record));
    }
  }

  /** Ends a call if a rank has left before it. Without a known reason this waits a moment for one to arrive. */
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
    const sent = [];
    for (let rank = 0; rank < this.size; rank++) {
      if (rank !== this.rank) sent.push(this.#link.tell(rank, message));
    }
    await Promise.all(sent);
  }
}
