/**
 * `completions`: scripts with which a shell completes commands, options and their values.
 */
import { UsageError } from "../arguments.ts";
import type { Command, Commands } from "../command.ts";
import { bashCompletions } from "./bash.ts";
import { fishCompletions } from "./fish.ts";
import { zshCompletions } from "./zsh.ts";

const SHELLS: Readonly<Record<string, (commands: Commands) => string>> = {
  bash: bashCompletions,
  zsh: zshCompletions,
  fish: fishCompletions,
};

/**
 * The command.
 *
 * @param commands all commands, including this one
 */
export function completionsCommand(commands: () => Commands): Command {
  return {
    summary: "Print a completion script for a shell",
    inputs: "<bash|zsh|fish>",
    choices: Object.keys(SHELLS),
    description:
      "Prints a script with which a shell completes commands, options and values. It is for the command fastsafetensors, " +
      "as `deno install` or `deno compile` creates it.",
    options: {},
    examples: [
      [
        "completions bash > ~/.local/share/bash-completion/completions/fastsafetensors",
        "bash, with its package bash-completion",
      ],
      ["completions zsh > ~/.zfunc/_fastsafetensors", "zsh, with ~/.zfunc in fpath before compinit"],
      ["completions fish > ~/.config/fish/completions/fastsafetensors.fish", "fish"],
    ],

    run({ inputs }) {
      const [shell = "", ...more] = inputs;
      if (more.length > 0 || !Object.hasOwn(SHELLS, shell)) {
        const names = Object.keys(SHELLS).join(", ");
        throw new UsageError(`completions needs the name of one shell: ${names}`);
      }
      console.log(SHELLS[shell]!(commands()));
    },
  };
}
