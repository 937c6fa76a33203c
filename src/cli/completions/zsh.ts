/**
 * Completion for zsh.
 */
import type { Commands, Option } from "../command.ts";
import { PROGRAM } from "../help.ts";
import { allOptions, flagsOf, takesFile } from "./options.ts";

/** Writes the script. */
export function zshCompletions(commands: Commands): string {
  const names = Object.entries(commands)
    .map(([name, { summary }]) => `    ${quote(`${name}:${summary.replaceAll(":", "\\:")}`)}`);
  const cases = Object.entries(commands).map(([name, command]) => {
    const inputs = command.choices ? `*:argument:(${command.choices.join(" ")})` : "*:file:_files";
    const specs = [...allOptions(command).flatMap(([option, details]) => specsOf(option, details)), inputs];
    const words = ["_arguments", ...specs.map((spec) => `  ${quote(spec)}`)];
    return `    ${name})\n      ${words.join(" \\\n      ")}\n      ;;`;
  });
  return `#compdef ${PROGRAM}
# zsh completion for ${PROGRAM}
_${PROGRAM}() {
  local -a commands
  commands=(
${names.join("\n")}
  )
  if ((CURRENT == 2)); then
    _describe command commands
    _arguments '--help[print the help]' '--version[print the version]'
    return
  fi
  local command=$words[2]
  shift words
  ((CURRENT--))
  case $command in
${cases.join("\n")}
  esac
}
if [ "$funcstack[1]" = "_${PROGRAM}" ]; then
  _${PROGRAM} "$@"
else
  compdef _${PROGRAM} ${PROGRAM}
fi`;
}

/** The specifications of an option for `_arguments`, one for each spelling. */
function specsOf(name: string, option: Option): string[] {
  const { kind, help, value = "", choices } = option;
  const description = help.replaceAll(/[[\]:\\]/g, "\\$&");
  const action = takesFile(option) ? "_files" : choices ? `(${choices.join(" ")})` : " ";
  return flagsOf(name).map((flag) => {
    const again = kind === "list" ? "*" : "";
    if (kind === "flag") return `${flag}[${description}]`;
    return `${again}${flag}${flag.startsWith("--") ? "=" : ""}[${description}]:${value}:${action}`;
  });
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
