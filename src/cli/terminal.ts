/**
 * Bold and dim text, for terminals only.
 */
import { styleText } from "node:util";
import { environmentVariable, mayRead } from "../../ffi/variables.ts";

/** Styles a text; returns it unchanged if the stream is not a terminal that shows styles, or `NO_COLOR` is set. */
export function styled(
  style: "bold" | "dim" | "red",
  text: string,
  stream: "stdout" | "stderr" = "stdout",
): string {
  const plain = !Deno[stream].isTerminal() || environmentVariable("NO_COLOR") !== undefined || isDumb();
  return plain ? text : styleText(style, text, { validateStream: false });
}

/** Whether stderr is a terminal that can redraw a line. */
export function canRedraw(): boolean {
  return !isDumb() && (Deno.stderr.isTerminal() || launcherIsOnTerminal());
}

function isDumb(): boolean {
  return environmentVariable("TERM") === "dumb";
}

/** Columns of the terminal; `byDefault` without a terminal, or behind a launcher. */
export function terminalColumns(byDefault = 80): number {
  try {
    return Deno.consoleSize().columns || byDefault;
  } catch {
    return byDefault;
  }
}

/** Process names of MPI launchers, and of the daemons that start the ranks of a machine for them. */
const LAUNCHERS = /^(mpirun|mpiexec|orterun|prterun|orted|prted|hydra_)/;

/** Whether stderr is a pipe to an MPI launcher that forwards it to a terminal. */
function launcherIsOnTerminal(): boolean {
  if (!mayRead("/proc")) return false;
  let isTerminal = false;
  try {
    for (let pid = `${Deno.ppid}`;;) {
      const [, name, parent] = /^\d+ \((.*)\) \S (\d+) /s.exec(Deno.readTextFileSync(`/proc/${pid}/stat`))!;
      if (!LAUNCHERS.test(name!)) return isTerminal;
      isTerminal = /^\/dev\/(pts\/|tty)/.test(Deno.readLinkSync(`/proc/${pid}/fd/2`));
      pid = parent!;
    }
  } catch {
    return isTerminal; // not Linux, or /proc is not readable
  }
}
