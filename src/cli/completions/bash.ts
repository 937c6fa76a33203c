/**
 * Completion for bash.
 */
import type { Commands } from "../command.ts";
import { PROGRAM } from "../help.ts";
import { allOptions, flagsOf, takesFile } from "./options.ts";

/** Writes the script. */
export function bashCompletions(commands: Commands): string {
  const names = Object.keys(commands);
  const cases = Object.entries(commands).map(([name, command]) => {
    const options = allOptions(command);
    const values = options.filter(([, { kind }]) => kind !== "flag").map(([option, details]) => {
      const action = takesFile(details) ? "" : `_${PROGRAM}_words "${details.choices?.join(" ") ?? ""}"; `;
      return `        ${flagsOf(option).join("|")}) ${action}return ;;`;
    });
    return [
      `    ${name})`,
      `      options="${options.map(([option]) => `--${option}`).join(" ")}"`,
      `      inputs="${command.choices?.join(" ") ?? ""}"`,
      ...values.length > 0 ? ['      case "$previous" in', ...values, "      esac"] : [],
      "      ;;",
    ].join("\n");
  });
  return `# bash completion for ${PROGRAM}

# Offers these words, and no files besides.
_${PROGRAM}_words() {
  COMPREPLY=($(compgen -W "$1" -- "$current"))
  compopt +o default +o bashdefault 2>/dev/null
}

_${PROGRAM}() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD - 1]}" options="" inputs=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    _${PROGRAM}_words "${names.join(" ")} --help --version"
    return
  fi
  # --option=value is three words here.
  if [ "$current" = "=" ]; then
    current=""
  elif [ "$previous" = "=" ]; then
    previous="\${COMP_WORDS[COMP_CWORD - 2]}"
  fi
  case "\${COMP_WORDS[1]}" in
${cases.join("\n")}
  esac
  if [ "\${current:0:1}" = "-" ]; then
    _${PROGRAM}_words "$options"
  elif [ -n "$inputs" ]; then
    _${PROGRAM}_words "$inputs"
  fi
}

# What has no list of its own is completed as a file.
complete -o bashdefault -o default -F _${PROGRAM} ${PROGRAM}`;
}
