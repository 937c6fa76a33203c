/**
 * What the ranks of a group do together: one thing after another, in the order in which it was asked for, and only
 * once all of them have said that they are ready.
 */
import { GroupError } from "../base/errors.ts";
import type { ProcessGroup } from "../base/process_group.ts";

/** What is given up at the end of an operation. */
export interface Held {
  /** In any case. */
  readonly always: DisposableStack;
  /** If it fails: what it would have given out. */
  readonly unlessDone: DisposableStack;
}

/** Something that all ranks of a group do together. */
export interface Operation<P, R> {
  /** What it is, the same on every rank: `getTensor("x")`. */
  readonly label: string;
  /** Ends it before it begins, on this rank and by that on all. */
  readonly signal?: AbortSignal | undefined;
  /** Refuses it, on every rank alike: nothing is said to the others. */
  readonly check?: () => void;
  /** What this rank has to do by itself; whatever fails here is told to the others. */
  prepare(held: Held): Promise<P>;
  /** The calls of the group. Only what leaves the group without use may throw here. */
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

  /** The queue of a group: all that load over it share one, so that their calls cannot cross. */
  static of(group: ProcessGroup): RankQueue {
    let queue = queues.get(group);
    if (!queue) queues.set(group, queue = new RankQueue(group));
    return queue;
  }

  /**
   * Does something together with the other ranks, once all that was asked for before is done.
   *
   * @throws {GroupError} on every rank if it fails on one, which is named with the reason; there it is the `cause`.
   *   What the operation's own signal or check says is thrown as it is
   */
  run<P, R>(operation: Operation<P, R>): Promise<R> {
    return this.#next(async () => {
      operation.check?.();
      return await this.#run(operation);
    });
  }

  /** Lets the ranks know that this one comes to no further operation of a series, and why if that is too early. */
  async end(label: string, tooEarly: string | null): Promise<void> {
    await this.#next(() =>
      this.#group.agree(tooEarly === null ? { ok: true } : { ok: false, message: tooEarly }, label)
    );
  }

  #next<R>(action: () => Promise<R>): Promise<R> {
    const result = this.#last.then(action);
    this.#last = result.then(() => {}, () => {}); // without the result: its tensors would live as long as the group
    return result;
  }

  async #run<P, R>({ label, signal, prepare, move }: Operation<P, R>): Promise<R> {
    using always = new DisposableStack();
    using unlessDone = new DisposableStack();
    const outcome = await attempt(async () => {
      signal?.throwIfAborted();
      return await prepare({ always, unlessDone });
    });
    await this.#agree(label, outcome, signal);
    const { value } = outcome as { value: P };
    try {
      const result = await move(value);
      unlessDone.move(); // the caller's from now on
      return result;
    } catch (error) {
      // Bytes may still arrive, or be sent: their memory must stay, and is lost with the group.
      always.move();
      unlessDone.move();
      if (!(error instanceof GroupError)) await this.#group.abort(messageOf(error)); // nobody else would know
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
 * Does something on each rank of a group by itself, which then has failed on all if it has on one; without a group it
 * is simply done.
 *
 * @param undo what to do here where it succeeded, if it failed elsewhere
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

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
