/**
 * Ranks that meet over TCP at an address that the launcher gives, without MPI.
 */
import type { GroupError } from "../base/errors.ts";
import { departure, differenceFailure, rankFailure, timeout, toldFailure } from "./call_failure.ts";
import { type CallRecord, recordOf } from "./call_record.ts";
import type { GroupControl } from "./control.ts";
import type { Json } from "./process_group.ts";
import { type FromHub, isPair, type ToHub } from "./tcp_hub.ts";

/** How long, in milliseconds, rank 0 may take to say for whom it waits. */
const HURRY_MS = 2000;

/** How a rank reaches the hub. */
export interface HubLink {
  /** Tells the hub something; done when it is on its way. */
  tell(message: ToHub): Promise<void>;
  /** Ends the connection after what has been told. */
  close(): Promise<void>;
}

/** What is waited for: the hub's verdict, or another rank. */
interface Waiting {
  readonly record: CallRecord;
  readonly peer: number | undefined;
  readonly resolve: (values: readonly Json[]) => void;
  readonly reject: (failure: GroupError) => void;
}

/** One rank of a group over TCP. */
export class TcpControl implements GroupControl {
  readonly rank: number;
  readonly size: number;
  readonly timeoutSeconds: number;
  readonly #link: HubLink;
  readonly #pairs = new Map<number, CallRecord>();
  readonly #departures = new Map<number, number>();
  #completed = 0;
  #waiting: Waiting | undefined;
  #failure: GroupError | undefined;

  constructor(rank: number, size: number, timeoutSeconds: number, link: HubLink) {
    this.rank = rank;
    this.size = size;
    this.timeoutSeconds = timeoutSeconds;
    this.#link = link;
  }

  async meet(record: CallRecord, peer?: number, lengths: readonly number[] = []): Promise<void> {
    await this.#meet({ ...record, sequence: peer === undefined ? this.#completed : 0 }, peer, lengths, null);
  }

  async allGather(value: Json, label: string): Promise<Json[]> {
    const record = { ...recordOf("allGather", this.rank, { label }), sequence: this.#completed };
    return [...await this.#meet(record, undefined, [], value)];
  }

  look(): GroupError | undefined {
    return this.#failure; // a rank that has left while bytes move was done with its part
  }

  async fail(failure: GroupError): Promise<void> {
    if (this.#failure) return;
    this.#fail(failure, false);
    await this.#link.tell({ type: "failed", rank: failure.rank, message: failure.message });
  }

  async close(): Promise<void> {
    await this.#link.tell({ type: "left", completed: this.#completed });
    await this.#link.close();
  }

  /** Takes what the hub says. */
  take(said: FromHub): void {
    const waiting = this.#waiting;
    switch (said.type) {
      case "done":
        this.#completed++;
        waiting?.resolve(said.values);
        return;
      case "pair":
        this.#pairs.set(said.record.rank, said.record);
        if (waiting) this.#match(waiting);
        return;
      case "failed":
        if (said.goOn) this.#completed++;
        this.#fail(toldFailure(said.rank, said.message), said.goOn);
        return;
      case "left": {
        this.#departures.set(said.rank, said.completed);
        const failure = waiting && this.#gone(waiting.record, waiting.peer);
        if (failure) this.#fail(failure, false);
        return;
      }
    }
  }

  /** Takes note that the connection to rank 0 has ended. */
  lost(): void {
    if (!this.#departures.has(0)) this.#fail(rankFailure(0, "its process has ended"), false);
  }

  async #meet(
    record: CallRecord,
    peer: number | undefined,
    lengths: readonly number[],
    value: Json,
  ): Promise<readonly Json[]> {
    const failure = this.#failure ??= this.#gone(record, peer);
    if (failure) throw failure;
    const { promise, resolve, reject } = Promise.withResolvers<readonly Json[]>();
    const waiting = this.#waiting = { record, peer, resolve, reject };
    if (peer === undefined) void this.#link.tell({ type: "call", record, lengths, value });
    else void this.#link.tell({ type: "pair", to: peer, record });
    this.#match(waiting);
    const seconds = this.timeoutSeconds;
    let timer = setTimeout(() => {
      if (peer !== undefined) return this.#giveUp(timeout(peer, `${peer}`, record, seconds));
      timer = setTimeout(() => this.#giveUp(timeout(0, "0", record, seconds)), HURRY_MS);
      void this.#link.tell({ type: "hurry", seconds });
    }, seconds * 1000);
    try {
      return await promise;
    } finally {
      this.#waiting = undefined;
      clearTimeout(timer);
    }
  }

  /** Compares with a rank that sends to this one or receives from it: in a call of all ranks there is none such. */
  #match({ record, peer, resolve }: Waiting): void {
    const said = peer === undefined ? this.#pairs.values().next().value : this.#pairs.get(peer);
    if (!said) return;
    this.#pairs.delete(said.rank);
    if (peer !== undefined && isPair(record, said)) resolve([]);
    else this.#giveUp(differenceFailure(record, said));
  }

  /** The failure that a rank which has left means for a call, if any. */
  #gone(record: CallRecord, peer?: number): GroupError | undefined {
    for (const [rank, completed] of this.#departures) {
      if ((peer === undefined ? completed <= this.#completed : rank === peer)) return departure(rank, record);
    }
    return undefined;
  }

  #giveUp(failure: GroupError): void {
    void this.fail(failure);
  }

  #fail(failure: GroupError, goOn: boolean): void {
    if (!goOn) this.#failure ??= failure;
    this.#waiting?.reject(failure);
  }
}
