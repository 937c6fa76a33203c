/**
 * The repetitions of a request: what is worth another try, after which pause, and what the user reads about it.
 */
import { RemoteError } from "../../base/errors.ts";
import { quote } from "../../base/text.ts";
import type { NetworkHost } from "./host.ts";
import type { RemoteLimits } from "./remote_file.ts";

/** A failure that another try can mend. */
export class TemporaryFailure extends Error {
  override readonly name = "TemporaryFailure";
  /** The HTTP status; 0 if there was no answer. */
  readonly status: number;
  /** The pause that the server asked for, in seconds; null if it did not. */
  readonly pauseSeconds: number | null;

  constructor(reason: string, status = 0, pauseSeconds: number | null = null) {
    super(reason);
    this.status = status;
    this.pauseSeconds = pauseSeconds;
  }
}

/** First pause and longest pause of our own, in milliseconds; each pause is up to twice as long as the one before. */
const FIRST_PAUSE = 200, LONGEST_PAUSE = 8000;

/** Longest pause that a server may ask for, in seconds: the window of the Hub's limits. */
const LONGEST_ASKED = 300;

/** Bytes that count as progress: afterwards all tries are available again. */
const PROGRESS = 64 * 1024;

/** Counts the repeated requests by reason, for notes. */
export class RetryNotes {
  readonly #counts = new Map<string, number>();

  add(reason: string): void {
    this.#counts.set(reason, (this.#counts.get(reason) ?? 0) + 1);
  }

  /** Returns the notes since the last call. */
  take(path: string): string[] {
    if (this.#counts.size === 0) return [];
    const total = this.#counts.values().reduce((sum, count) => sum + count, 0);
    const reasons = Array.from(
      this.#counts,
      ([reason, count]) => count === 1 ? reason : `${reason} (${count})`,
    );
    this.#counts.clear();
    return [
      `Repeated ${total === 1 ? "a request" : `${total} requests`} for ${quote(path)}: ${reasons.join(", ")}`,
    ];
  }
}

/** What all tries of one request share. */
export interface AttemptContext {
  readonly host: Pick<NetworkHost, "pause">;
  readonly limits: RemoteLimits;
  readonly notes: RetryNotes;
  /** The file, for messages. */
  readonly path: string;
  /** The beginning of a message, such as `Cannot read "https://host/x"`. */
  readonly action: string;
  readonly signal: AbortSignal;
}

/** The tries of one request. */
export class Attempts {
  readonly #context: AttemptContext;
  #failed = 0;
  #progress = 0;

  constructor(context: AttemptContext) {
    this.#context = context;
  }

  /** Records bytes that have arrived. */
  advance(bytes: number): void {
    this.#progress += bytes;
    if (this.#progress < PROGRESS) return;
    this.#progress = 0;
    this.#failed = 0;
  }

  /**
   * Waits before the next try.
   *
   * @throws the failure itself, if no other try can mend it
   * @throws {RemoteError} if there were as many tries as allowed, or the server asks for too long a pause
   */
  async afterFailure(failure: unknown, details: { offset?: number; expected?: number } = {}): Promise<void> {
    const { signal, limits, notes, path, action, host } = this.#context;
    signal.throwIfAborted();
    if (!(failure instanceof TemporaryFailure)) throw failure;
    const { message: reason, status, pauseSeconds } = failure;
    const fail = (why: string): never => {
      const code = status === 0 ? "Unreachable" : "ServerFailure";
      throw new RemoteError(`${action}: ${reason}${why}`, { path, code, status, ...details });
    };
    if (pauseSeconds !== null && pauseSeconds > LONGEST_ASKED) {
      fail(`, and asks to wait for ${Math.ceil(pauseSeconds)} seconds: try again then`);
    }
    if (this.#failed >= limits.retries) {
      fail(
        this.#failed === 0
          ? ""
          : `, also after ${this.#failed === 1 ? "a second try" : `${this.#failed} more tries`}`,
      );
    }
    notes.add(reason);
    const longest = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.#failed++);
    await host.pause(Math.max(longest * (0.5 + Math.random() / 2), (pauseSeconds ?? 0) * 1000), signal);
  }
}

/** Returns the pause that an answer asks for, in seconds: `Retry-After`, or the Hub's `RateLimit` if nothing is left. */
export function askedPause(headers: Headers, now = Date.now()): number | null {
  const limit = headers.get("ratelimit") ?? "";
  const [, remaining, seconds] = limit.length > 1000 ? [] : /;\s*r=(\d+).*;\s*t=(\d+)/.exec(limit) ?? [];
  if (remaining === "0") return Number(seconds);
  const after = headers.get("retry-after");
  if (after === null) return null;
  if (/^\s*\d+\s*$/.test(after)) return Number(after);
  const date = Date.parse(after);
  return Number.isNaN(date) ? null : Math.max(0, (date - now) / 1000);
}
