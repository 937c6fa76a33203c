/**
 * Bold and dim text where a terminal shows it, and nowhere else.
 */
import { styleText } from "node:util";
import { environmentVariable, mayRead } from "../../ffi/variables.ts";

/** Text in a style, or as it is where the stream is not a terminal that shows it, or `NO_COLOR` is set. */
export function styled(
  style: "bold" | "dim" | "red",
  text: string,
  stream: "stdout" | "stderr" = "stdout",
): string {
  const plain = !Deno[stream].isTerminal() || environmentVariable("NO_COLOR") !== undefined || isDumb();
  return plain ? text : styleText(style, text, { validateStream: false });
}

/** Whether a line on stderr can be drawn again and again: on a terminal that can do that. */
export function canRedraw(): boolean {
  return !isDumb() && (Deno.stderr.isTerminal() || launcherIsOnTerminal());
}

function isDumb(): boolean {
  return environmentVariable("TERM") === "dumb";
}

/** Columns of the terminal; `byDefault` where there is none, or a launcher stands before it. */
export function terminalColumns(byDefault = 80): number {
  try {
    return Deno.consoleSize().columns || byDefault;
  } catch {
    return byDefault;
  }
}

/** Launchers of MPI, and what starts the ranks of a machine for them, by the names of their processes. */
const LAUNCHERS = /^(mpirun|mpiexec|orterun|prterun|orted|prted|hydra_)/;

/** Whether stderr is a pipe to a launcher of MPI which passes on to a terminal what it gets there. */
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
    return isTerminal; // no such system, or not to be seen
  }
}
