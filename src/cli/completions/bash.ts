/**
 * Completion for bash.
 */
import type { Commands } from "../command.ts";
import { PROGRAM } from "../help.ts";
import { allOptions, flagsOf, takesFile } from "./options.ts";

/** The script. */
export function bashCompletions(commands: Commands): string {
  const names = Object.keys(commands);
  const cases = Object.entries(commands).map(([name, command]) => {
    const values = allOptions(command).filter(([, { kind }]) => kind !== "flag").map(([option, details]) => {
      const flags = flagsOf(option).join("|");
      if (takesFile(details)) return `        ${flags}) return ;;`;
      return `        ${flags}) COMPREPLY=($(compgen -W "${
        (details.choices ?? []).join(" ")
      }" -- "$current"));` +
        " compopt +o default +o bashdefault 2>/dev/null; return ;;";
    });
    const words = allOptions(command).map(([option]) => `--${option}`).join(" ");
    const inputs = command.choices?.join(" ") ?? "";
    return [
      `    ${name})`,
      `      options="${words}"`,
      `      inputs="${inputs}"`,
      ...values.length > 0 ? ['      case "$previous" in', ...values, "      esac"] : [],
      "      ;;",
    ].join("\n");
  });
  return `# bash completion for ${PROGRAM}
_${PROGRAM}() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD - 1]}" options="" inputs=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "${names.join(" ")} --help --version" -- "$current"))
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
    COMPREPLY=($(compgen -W "$options" -- "$current"))
  elif [ -n "$inputs" ]; then
    COMPREPLY=($(compgen -W "$inputs" -- "$current"))
  fi
}
# What has no list of its own is completed as a file.
complete -o bashdefault -o default -F _${PROGRAM} ${PROGRAM}`;
}
