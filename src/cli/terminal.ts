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
  return Deno.stderr.isTerminal() && Deno.env.get("TERM") !== "dumb";
}
