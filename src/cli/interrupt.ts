/**
 * Ending in an orderly way when the user or the system wants an end.
 */

import { isGranted } from "../../ffi/variables.ts";

/** The signals and their numbers. Windows has no other one. */
const SIGNALS: readonly (readonly [name: Deno.Signal, number: number])[] = Deno.build.os === "windows"
  ? [["SIGINT", 2]]
  : [["SIGINT", 2], ["SIGTERM", 15]];

/** How long to wait for a signal to end this process, in milliseconds: it does so at once. */
const PATIENCE = 2000;

/**
 * Runs `work` with a signal that Ctrl-C and SIGTERM abort, so that it can clean up. A second one ends the process at
 * once. After the first the process ends by that signal when everything is done, whatever `work` has come to: so
 * whoever has started it, such as a loop of a shell, sees that it was interrupted.
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
        Deno.exitCode = 128 + number; // what a shell makes of the signal, where this program may not send it
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

/** Ends the process by a signal. Deno passes signals on from another thread: this one must not be done before. */
function endBy(name: Deno.Signal): void {
  Deno.kill(Deno.pid, name);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PATIENCE);
}
