/**
 * Orderly end of the process after a signal, such as that of Ctrl-C.
 */

import { isGranted, mayRead } from "../../ffi/variables.ts";

/** The signals that end a process, of a terminal (hang-up, Ctrl-C, Ctrl-\\) and of the system, and their numbers. */
const SIGNALS: readonly (readonly [name: Deno.Signal, number: number])[] = Deno.build.os === "windows"
  ? [["SIGINT", 2]]
  : [["SIGHUP", 1], ["SIGINT", 2], ["SIGQUIT", 3], ["SIGTERM", 15]];

/** The longest wait for the signal that ends this process, in milliseconds; normally it acts at once. */
const PATIENCE = 2000;

/**
 * Runs `work` with a signal that the system's signals abort, so that it can clean up. Signals that the parent process
 * ignores for this one, as `nohup` does with SIGHUP, stay ignored. A second signal ends the process at
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
  const ignored = ignoredSignals();
  const isIgnored = ([, number]: typeof SIGNALS[number]) => (ignored >> BigInt(number - 1) & 1n) === 1n;
  // After the first listener Deno ends the process also by signals that were ignored, unless they have a listener.
  for (const [name] of SIGNALS.filter(isIgnored)) Deno.addSignalListener(name, () => {});
  const listeners = SIGNALS.filter((signal) => !isIgnored(signal)).map(([name, number]) =>
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

/** The signals that this process ignores since its start: bit n - 1 is signal n; 0 if the system does not say it. */
function ignoredSignals(): bigint {
  const path = "/proc/self/status";
  if (!mayRead(path)) return 0n;
  try {
    const [, mask = "0"] = /^SigIgn:\s*([0-9a-f]+)$/m.exec(Deno.readTextFileSync(path)) ?? [];
    return BigInt(`0x${mask}`);
  } catch {
    return 0n; // not Linux
  }
}

/** Ends the process by a signal. Deno delivers signals from another thread: this thread waits for it. */
function endBy(name: Deno.Signal): void {
  Deno.kill(Deno.pid, name);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PATIENCE);
}
