/**
 * Ending in an orderly way when the user or the system wants an end.
 */

/** Windows has no other one. */
const SIGNALS: readonly Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM"];

/**
 * Runs `work` with a signal that Ctrl-C and SIGTERM abort, so that it can clean up. A second one ends the process.
 *
 * @param message what is said then
 */
export async function interruptible<T>(
  message: string,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const interrupt = new AbortController();
  const stop = () => {
    ignore();
    interrupt.abort(new Error(message));
  };
  const ignore = () => {
    for (const name of SIGNALS) Deno.removeSignalListener(name, stop);
  };
  for (const name of SIGNALS) Deno.addSignalListener(name, stop);
  try {
    return await work(interrupt.signal);
  } finally {
    ignore();
  }
}
