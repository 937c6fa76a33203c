/**
 * Messages of all groups over MPI. The groups share one channel between processes; each message names its group.
 */
import { MESSAGE_BYTES, MpiChannel, type MpiProcess, openMpi } from "../../../ffi/mpi.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import { DeviceError } from "../../base/errors.ts";
import { GroupControl, type GroupLink } from "./control.ts";
import type { GroupMessage } from "./hub.ts";

/** A message of a group. */
interface GroupSaid {
  readonly group: number;
  readonly said: GroupMessage;
}

/** A message from one process to another. The last one says why the process has ended. */
type Said = GroupSaid | { readonly ended: string };

/** A group whose ranks are processes of the world. */
export interface MpiMember {
  readonly control: GroupControl;
  /** The ranks' numbers in the world. */
  readonly ranks: readonly number[];
  /** The first of as many tags as it has ranks, which no other group uses. */
  readonly tag: number;
}

/** The place of a group among the processes. */
export interface MpiPlace {
  /** Unique number of the group, the same on all ranks: see {@linkcode MpiWorld.nextId}. */
  readonly id: number;
  /** The ranks' numbers in the world. */
  readonly ranks: readonly number[];
  /** How long, in seconds, a call waits for a rank. */
  readonly timeoutSeconds: number;
}

/** A message begins with the sender's number and whether more of it follows. */
const HEAD_BYTES = 8;
/** How many milliseconds in total a call polls before it returns to the event loop. */
const SHORT_MS = 0.25;
/** Longest reason that a process sends at its end, in characters. */
const LAST_WORDS_LENGTH = 4000;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

let world: Promise<MpiWorld> | undefined;

/**
 * Opens MPI, once.
 *
 * @throws {DeviceError} if it cannot be used, or a rank of the launcher does not come within the time
 */
export function openWorld(shim: Shim, timeoutSeconds: number): Promise<MpiWorld> {
  return world ??= (async () => {
    const opened = await openMpi(shim, timeoutSeconds);
    if ("reason" in opened) {
      world = undefined;
      throw new DeviceError(`Cannot use MPI: ${opened.reason}`, { library: "mpi" });
    }
    return new MpiWorld(shim, opened);
  })();
}

/** All processes that the launcher has started. */
export class MpiWorld {
  /** The library and this process. */
  readonly process: MpiProcess;
  readonly #channel: MpiChannel;
  readonly #members = new Map<number, MpiMember>();
  /** Tags of groups that have failed, by the groups' numbers. */
  readonly #dropped = new Map<number, readonly [number, number, number]>();
  /** Messages for groups that this process has not made yet, or has left. */
  readonly #early: { readonly from: number; readonly group: number; readonly said: GroupMessage }[] = [];
  /** Beginnings of long messages. */
  readonly #parts = new Map<number, Uint8Array[]>();
  /** Why processes have ended. */
  readonly #reasons = new Map<number, string>();
  /** The last message, encoded. */
  #last: GroupSaid & { readonly parts: readonly Uint8Array<ArrayBuffer>[] } | undefined;
  #listeners = 0;
  #isReceiving = false;
  #failure: string | undefined;
  #worldIds = 0;
  #ids = 0;
  #lastError: string | undefined;

  /** Made by {@linkcode openWorld} only. */
  constructor(shim: Shim, process: MpiProcess) {
    this.process = process;
    this.#channel = new MpiChannel(shim);
    this.#channel.setLastWords(this.#encodeAll({ ended: "its process has ended" })[0]!);
    addEventListener("error", (event) => this.#noteError(event.error));
    addEventListener("unhandledrejection", (event) => this.#noteError(event.reason));
    addEventListener("unload", () => this.#end());
  }

  /** The id of the next group of all ranks: every rank makes them in the same order. */
  nextWorldId(): number {
    return 2 * this.#worldIds++ * this.process.size;
  }

  /** A new unique id for another group. */
  nextId(): number {
    return (2 * this.#ids++ + 1) * this.process.size + this.process.rank;
  }

  /** Makes a group without communication. */
  join({ id, ranks, timeoutSeconds }: MpiPlace): MpiMember {
    const rank = ranks.indexOf(this.process.rank);
    const tag = id * this.process.size % (this.process.tags - this.process.size + 1);
    const link: GroupLink = {
      tell: (to, said) => this.#send(ranks[to]!, { group: id, said }),
      look: (isDone) => {
        this.#look(isDone);
        if (this.#failure !== undefined) void control.failBy("mpi", this.#failure);
      },
      listen: () => this.#listen(),
      fail: () => this.#drop(id, [tag, ranks.length, 1]),
      close: () => this.#leave(id),
    };
    const control: GroupControl = new GroupControl(rank, ranks.length, timeoutSeconds, link);
    const member = { control, ranks, tag };
    this.#members.set(id, member);
    this.#setTags();
    for (const [process, reason] of this.#reasons) this.#hasEnded(member, process, reason);
    for (const { from, group, said } of this.#early.splice(0)) this.#take(from, { group, said });
    return member;
  }

  #leave(id: number): void {
    this.#members.delete(id);
    this.#setTags();
  }

  /** Drops bytes that other ranks still send to a failed group, so that their memory is released. */
  #drop(id: number, tags: readonly [number, number, number]): void {
    this.#dropped.set(id, tags);
    this.#setTags();
  }

  /** Tags are used again after many groups: those of a group that has not failed are not dropped. */
  #setTags(): void {
    const members = this.#members.entries().filter(([id]) => !this.#dropped.has(id));
    const used = members.map(([, { tag, ranks }]) => [tag, ranks.length, 0] as const).toArray();
    const dropped = this.#dropped.values().filter(([first, count]) =>
      !used.some(([tag, size]) => first < tag + size && tag < first + count)
    );
    this.#channel.setTags([...used, ...dropped]);
  }

  /** Delivers messages that have arrived, and those that arrive within a moment. */
  #look(isDone: () => boolean): void {
    this.#receiveAll();
    if (isDone()) return;
    const until = performance.now() + SHORT_MS;
    while (!isDone() && performance.now() < until) if (this.#channel.awaitShortly()) this.#receiveAll();
  }

  #listen(): Disposable {
    this.#listeners++;
    void this.#receiveOn();
    return {
      [Symbol.dispose]: () => {
        this.#listeners--;
      },
    };
  }

  /** Receives only while a call waits, as a pending receive keeps the program from ending. */
  async #receiveOn(): Promise<void> {
    if (this.#isReceiving) return;
    this.#isReceiving = true;
    while (this.#listeners > 0 && this.#failure === undefined) {
      await this.#channel.await();
      this.#receiveAll();
    }
    this.#isReceiving = false;
  }

  #receiveAll(): void {
    for (let message; this.#failure === undefined && (message = this.#channel.receive()) !== null;) {
      if (typeof message === "string") this.#break(message);
      else this.#receive(message);
    }
  }

  /** Messages are lost. A group without a current call fails at its next one. */
  #break(failure: string): void {
    if (this.#failure !== undefined) return;
    this.#failure = failure;
    for (const { control } of [...this.#members.values()]) {
      if (control.isBusy) void control.failBy("mpi", failure);
    }
  }

  #receive(message: Uint8Array<ArrayBuffer>): void {
    const head = new DataView(message.buffer, message.byteOffset);
    const from = head.getUint32(0), hasMore = head.getUint32(4) !== 0;
    const part = message.subarray(HEAD_BYTES);
    const before = this.#parts.get(from) ?? [];
    if (hasMore) {
      this.#parts.set(from, [...before, part.slice()]);
      return;
    }
    this.#parts.delete(from);
    const text = [...before.map((one) => decoder.decode(one, { stream: true })), decoder.decode(part)].join(
      "",
    );
    this.#take(from, JSON.parse(text) as Said);
  }

  #take(from: number, said: Said): void {
    if ("ended" in said) {
      this.#reasons.set(from, said.ended);
      for (const member of [...this.#members.values()]) this.#hasEnded(member, from, said.ended);
      return;
    }
    const member = this.#members.get(said.group);
    if (member) return member.control.take(member.ranks.indexOf(from), said.said);
    this.#early.push({ from, ...said });
    if (this.#early.length > 64 + 4 * this.process.size) this.#early.shift();
  }

  #hasEnded({ control, ranks }: MpiMember, process: number, reason: string): void {
    const rank = ranks.indexOf(process);
    if (rank >= 0) control.ended(rank, reason);
  }

  #send(to: number, said: GroupSaid): void {
    // The answer to a call goes to many ranks, and may contain the gathered values of all.
    if (this.#last?.said !== said.said || this.#last.group !== said.group) {
      this.#last = { ...said, parts: this.#encodeAll(said) };
    }
    if (!this.#last.parts.every((part) => this.#channel.send(to, part))) {
      this.#break("there is no memory for a message to another rank");
    }
  }

  /** One message, or several if it is long. */
  #encodeAll(said: Said): Uint8Array<ArrayBuffer>[] {
    const text = encoder.encode(JSON.stringify(said));
    const parts = [];
    for (let at = 0; at < text.byteLength; at += MESSAGE_BYTES - HEAD_BYTES) {
      const part = text.subarray(at, at + MESSAGE_BYTES - HEAD_BYTES);
      const message = new Uint8Array(HEAD_BYTES + part.byteLength);
      const head = new DataView(message.buffer);
      head.setUint32(0, this.process.rank);
      head.setUint32(4, at + part.byteLength < text.byteLength ? 1 : 0);
      message.set(part, HEAD_BYTES);
      parts.push(message);
    }
    return parts;
  }

  /** Prepares the message of this error for the other ranks, in case it ends the process. */
  #noteError(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    this.#lastError = reason.slice(0, LAST_WORDS_LENGTH);
    this.#channel.setLastWords(this.#encodeAll({ ended: this.#lastError })[0]!);
  }

  /** The process ends without an uncaught error. */
  #end(): void {
    const status = Deno.exitCode;
    const reason = status === 0 ? null : this.#lastError ?? `it ended with exit status ${status}`;
    for (const { control } of [...this.#members.values()]) control.end(reason);
    this.#channel.setLastWords(reason === null ? null : this.#encodeAll({ ended: reason })[0]!);
    this.#channel.exit(status);
  }
}
