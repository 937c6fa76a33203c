/**
 * Ending in an orderly way when the user or the system wants an end.
 */

/** Windows has no other one. */
const SIGNALS: readonly Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM"];

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
  const listeners = SIGNALS.map((name) =>
    [name, () => {
      ignore();
      addEventListener("unload", () => Deno.kill(Deno.pid, name));
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
