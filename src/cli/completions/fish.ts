/**
 * Completion for fish.
 */
import type { Commands } from "../command.ts";
import { PROGRAM } from "../help.ts";
import { LETTERS } from "../arguments.ts";
import { allOptions, takesFile } from "./options.ts";

/** Writes the script. */
export function fishCompletions(commands: Commands): string {
  const complete = `complete -c ${PROGRAM}`;
  const lines = [
    `# fish completion for ${PROGRAM}`,
    `${complete} -n __fish_use_subcommand -f -l help -s h -d ${quote("print the help")}`,
    `${complete} -n __fish_use_subcommand -f -l version -d ${quote("print the version")}`,
  ];
  for (const [name, command] of Object.entries(commands)) {
    const within = `-n ${quote(`__fish_seen_subcommand_from ${name}`)}`;
    lines.push(`${complete} -n __fish_use_subcommand -f -a ${name} -d ${quote(command.summary)}`);
    if (command.choices) lines.push(`${complete} ${within} -f -a ${quote(command.choices.join(" "))}`);
    for (const [option, details] of allOptions(command)) {
      const words = [complete, within, `-l ${option}`];
      if (LETTERS[option] !== undefined) words.push(`-s ${LETTERS[option]}`);
      if (details.kind !== "flag") words.push(takesFile(details) ? "-r -F" : "-x");
      if (details.choices) words.push(`-a ${quote(details.choices.join(" "))}`);
      lines.push([...words, `-d ${quote(details.help)}`].join(" "));
    }
  }
  return lines.join("\n");
}

function quote(text: string): string {
  return `'${text.replaceAll(/[\\']/g, "\\$&")}'`;
}
