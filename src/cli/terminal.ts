/**
 * Bold and dim text where a terminal shows it, and nowhere else.
 */
import process from "node:process";
import { styleText } from "node:util";

/** Text in a style, or as it is where the stream is no terminal, or `NO_COLOR` is set. */
export function styled(
  style: "bold" | "dim" | "red",
  text: string,
  stream: "stdout" | "stderr" = "stdout",
): string {
  return styleText(style, text, { stream: process[stream], validateStream: true });
}

/** Whether a line on stderr can be drawn again and again: on a terminal that can do that. */
export function canRedraw(): boolean {
  return Deno.env.get("TERM") !== "dumb" && (Deno.stderr.isTerminal() || launcherIsOnTerminal());
}

/** Columns of the terminal; 80 where a launcher stands before it. */
export function terminalColumns(): number {
  try {
    return Deno.consoleSize().columns || 80;
  } catch {
    return 80;
  }
}

/** Launchers of MPI, and what starts the ranks of a machine for them, by the names of their processes. */
const LAUNCHERS = /^(mpirun|mpiexec|orterun|prterun|orted|prted|hydra_)/;

/** Whether stderr is a pipe to a launcher of MPI which passes on to a terminal what it gets there. */
function launcherIsOnTerminal(): boolean {
  let isTerminal = false;
  try {
    for (let pid = `${Deno.ppid}`;;) {
      const [, name, parent] = /^\d+ \((.*)\) \S (\d+) /s.exec(Deno.readTextFileSync(`/proc/${pid}/stat`))!;
      if (!LAUNCHERS.test(name!)) return isTerminal;
      isTerminal = /^\/dev\/(pts\/|tty)/.test(Deno.readLinkSync(`/proc/${pid}/fd/2`));
      pid = parent!;
    }
  } catch {
    return isTerminal; // no such system, or not to be seen
  }
}
