/**
 * Orderly end of the process after Ctrl-C or SIGTERM.
 */

import { isGranted } from "../../ffi/variables.ts";

/** The signals and their numbers. Windows has only these. */
const SIGNALS: readonly (readonly [name: Deno.Signal, number: number])[] = Deno.build.os === "windows"
  ? [["SIGINT", 2]]
  : [["SIGINT", 2], ["SIGTERM", 15]];

/** The longest wait for the signal that ends this process, in milliseconds; normally it acts at once. */
const PATIENCE = 2000;

/**
 * Runs `work` with a signal that Ctrl-C and SIGTERM abort, so that it can clean up. A second signal ends the process at
 * once. After the first, the process ends by that signal when `work` has settled, also if it succeeded: the parent
 * process, such as a shell loop, then sees the interruption.
 *
 * @param message the message of the reason with which the signal aborts
 */
export async function interruptible<T>(
  message: string,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const interrupt = new AbortController();
  const listeners = SIGNALS.map(([name, number]) =>
    [name, () => {
      ignore();
      addEventListener("unload", () => {
        Deno.exitCode = 128 + number; // without --allow-run, the shell's status for the signal
        if (isGranted({ name: "run" })) endBy(name);
      });
      interrupt.abort(new Error(message));
    }] as const
  );
  const ignore = () => {
    for (const [name, stop] of listeners) Deno.removeSignalListener(name, stop);
  };
  for (const [name, stop] of listeners) Deno.addSignalListener(name, stop);
  try {
    return await work(interrupt.signal);
  } finally {
    ignore();
  }
}

/** Ends the process by a signal. Deno delivers signals from another thread: this thread waits for it. */
function endBy(name: Deno.Signal): void {
  Deno.kill(Deno.pid, name);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PATIENCE);
}
