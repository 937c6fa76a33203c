/**
 * Runs the operations that all ranks of a group do together: one after another, in the order of the requests, and
 * only after all ranks have reported that they are ready.
 */
import { messageOf } from "../base/text.ts";
import { GroupError } from "../base/errors.ts";
import type { ProcessGroup } from "../base/process_group.ts";

/** The resources that are disposed at the end of an operation. */
export interface Cleanup {
  /** Disposed in any case. */
  readonly always: DisposableStack;
  /** The results, disposed if the operation fails. */
  readonly onFailure: DisposableStack;
}

/** An operation of all ranks of a group. */
export interface Operation<P, R> {
  /** A description, the same on every rank: `getTensor("x")`. */
  readonly label: string;
  /** Cancels it before it begins, on this rank and so on all. */
  readonly signal?: AbortSignal | undefined;
  /** Throws the same error on every rank, so that no communication is needed. */
  readonly check?: () => void;
  /** The work of this rank alone; its error is sent to the others. */
  prepare(cleanup: Cleanup): Promise<P>;
  /** The calls of the group. An error here makes the group unusable. */
  move(prepared: P): Promise<R>;
}

const queues = new WeakMap<ProcessGroup, RankQueue>();

/** The operations over one group. */
export class RankQueue {
  readonly #group: ProcessGroup;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(group: ProcessGroup) {
    this.#group = group;
  }

  /**
   * The queue of a group: all loads over the group share one, so that their calls have the same order on every
   * rank.
   */
  static of(group: ProcessGroup): RankQueue {
    let queue = queues.get(group);
    if (!queue) queues.set(group, queue = new RankQueue(group));
    return queue;
  }

  /**
   * Runs an operation with the other ranks, after all earlier ones.
   *
   * @throws {GroupError} on every rank if it fails on one, which the error names with the reason; on that rank it
   *   has a `cause`. Errors of the operation's own signal or check are thrown unchanged
   */
  run<P, R>(operation: Operation<P, R>): Promise<R> {
    return this.#next(async () => {
      operation.check?.();
      return await this.#run(operation);
    });
  }

  /**
   * Tells the ranks that this one leaves a series of operations; `tooEarly` is the reason if the series is not
   * finished.
   */
  async end(label: string, tooEarly: string | null): Promise<void> {
    await this.#next(() =>
      this.#group.agree(tooEarly === null ? { ok: true } : { ok: false, message: tooEarly }, label)
    );
  }

  #next<R>(action: () => Promise<R>): Promise<R> {
    const result = this.#last.then(action);
    this.#last = result.then(() => {}, () => {}); // without the result: otherwise its tensors would stay alive as long as the group
    return result;
  }

  async #run<P, R>({ label, signal, prepare, move }: Operation<P, R>): Promise<R> {
    using always = new DisposableStack();
    using onFailure = new DisposableStack();
    const outcome = await attempt(async () => {
      signal?.throwIfAborted();
      return await prepare({ always, onFailure });
    });
    await this.#agree(label, outcome, signal);
    const { value } = outcome as { value: P };
    try {
      const result = await move(value);
      onFailure.move(); // the caller owns the results now
      return result;
    } catch (error) {
      // Bytes may still arrive or be sent, so their memory must stay until the group is freed.
      always.move();
      onFailure.move();
      if (!(error instanceof GroupError)) await this.#group.abort(messageOf(error)); // the other ranks do not know the error
      throw error;
    }
  }

  async #agree(label: string, outcome: Outcome<unknown>, signal: AbortSignal | undefined): Promise<void> {
    const failed = "error" in outcome;
    try {
      await this.#group.agree(
        failed ? { ok: false, message: messageOf(outcome.error) } : { ok: true },
        label,
      );
    } catch (error) {
      if (!failed) throw error;
      if (signal?.aborted && outcome.error === signal.reason) throw signal.reason;
      if (!(error instanceof GroupError) || error.rank !== this.#group.rank) throw error;
      throw new GroupError(error.message, error.rank, error.reason, { cause: outcome.error });
    }
  }
}

/**
 * Runs an action on each rank of a group; if it fails on one rank, it fails on all. Without a group, just runs the
 * action.
 *
 * @param undo undoes the action on this rank if it failed on another
 */
export async function together<R>(
  group: ProcessGroup | undefined,
  { label, signal }: Pick<Operation<R, R>, "label" | "signal">,
  action: () => Promise<R>,
  undo: (result: R) => Promise<void>,
): Promise<R> {
  if (!group) return await action();
  let done: { result: R } | undefined;
  const prepare = async () => (done = { result: await action() }).result;
  try {
    return await RankQueue.of(group).run({
      label,
      signal,
      prepare,
      move: (result) => Promise.resolve(result),
    });
  } catch (error) {
    if (done) await undo(done.result);
    throw error;
  }
}

type Outcome<T> = { readonly value: T } | { readonly error: unknown };

async function attempt<T>(action: () => Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await action() };
  } catch (error) {
    return { error };
  }
}
