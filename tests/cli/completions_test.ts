import { assertEquals } from "@std/assert";
import { bashCompletions } from "../../src/cli/completions/bash.ts";
import { fishCompletions } from "../../src/cli/completions/fish.ts";
import { zshCompletions } from "../../src/cli/completions/zsh.ts";
import { COMMANDS } from "../../src/cli/commands.ts";
import { tempFolder } from "../support/models.ts";
import { suite } from "../support/skip.ts";
import { runCli, whyNot } from "./support.ts";

/** The output of a shell for a script. */
async function shell(command: string, args: string[], env: Record<string, string> = {}): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(command, { args, env }).output();
  const decoder = new TextDecoder();
  assertEquals([code, decoder.decode(stderr)], [0, ""], command);
  return decoder.decode(stdout);
}

/** The typed words, and the completions of the last one. */
const OFFERS: [words: string[], offered: string[]][] = [
  [["lo"], ["load"]],
  [["inspect", "--li"], ["--limit", "--list"]],
  [["load", "--device", "c"], ["cpu", "cuda"]],
  [["load", "model", "--shard", ""], ["gpt2", "llama", "mixtral"]],
  [["completions", ""], ["bash", "fish", "zsh"]],
  [["verify", "--sh"], ["--sha256"]],
  [["help", "co"], ["completions", "convert"]],
];

Deno.test("completions prints the script of each shell", async () => {
  const scripts = { bash: bashCompletions, zsh: zshCompletions, fish: fishCompletions };
  for (const [name, script] of Object.entries(scripts)) {
    assertEquals(await runCli("completions", name), { code: 0, stdout: `${script(COMMANDS)}\n`, stderr: "" });
  }
});

Deno.test("bash completes commands, options, values and files", async () => {
  await using folder = await tempFolder();
  const script = `${folder.path}/completions.bash`;
  await Deno.writeTextFile(script, bashCompletions(COMMANDS));
  await shell("bash", ["-n", script]);
  const complete = async (words: string[]) => {
    const line = 'source "$1"; shift; COMP_WORDS=(fastsafetensors "$@"); COMP_CWORD=$#; _fastsafetensors; ' +
      'printf "%s\\n" "${COMPREPLY[@]}"';
    return (await shell("bash", ["-c", line, "bash", script, ...words])).split("\n").filter(Boolean).sort();
  };
  for (const [words, offered] of OFFERS) assertEquals(await complete(words), offered, words.join(" "));
  // bash splits words at the equals sign.
  assertEquals(await complete(["load", "--gds", "=", "re"]), ["require"]);
  assertEquals(await complete(["load", "--gds", "="]), ["auto", "off", "require"]);
  // No completions for files: bash adds them.
  for (const words of [["load", "mo"], ["convert", "-o", ""], ["verify", "--checksums", "c"]]) {
    assertEquals(await complete(words), []);
  }
  for (const [name, { options }] of Object.entries(COMMANDS)) {
    const flags = [...Object.keys(options), "help"].map((option) => `--${option}`).sort();
    assertEquals(await complete([name, "--"]), flags);
  }
});

suite("completion in fish", "shells", whyNot("fish"), () => {
  Deno.test("fish completes commands, options and values", async () => {
    await using folder = await tempFolder();
    const script = `${folder.path}/completions.fish`;
    await Deno.writeTextFile(script, fishCompletions(COMMANDS));
    const env = { HOME: folder.path, XDG_CONFIG_HOME: folder.path, XDG_DATA_HOME: folder.path };
    await shell("fish", ["--no-execute", script], env);
    for (const [words, offered] of OFFERS) {
      const line = `source ${script}; complete -C "fastsafetensors ${words.join(" ")}"`;
      const lines = (await shell("fish", ["--no-config", "-c", line], env)).split("\n").filter(Boolean);
      assertEquals(lines.map((text) => text.split("\t")[0]!).sort(), offered, words.join(" "));
    }
  });
});

suite("completion in zsh", "shells", whyNot("zsh"), () => {
  Deno.test("zsh completes commands, options and values", async () => {
    await using folder = await tempFolder();
    const script = `${folder.path}/_fastsafetensors`;
    await Deno.writeTextFile(script, zshCompletions(COMMANDS));
    await shell("zsh", ["-n", script]);
    for (const [words, offered] of OFFERS) {
      const line = `fastsafetensors ${words.join(" ")}`;
      const got = await shell("zsh", ["-f", "-c", ZSH_TRIAL, "zsh", folder.path, line], {
        HOME: folder.path,
      });
      assertEquals(got.split("\n").filter(Boolean).sort(), offered, words.join(" "));
    }
  });
});

/**
 * A zsh on a new terminal: it types a line, presses Tab, and prints every completion. zsh passes all completions to
 * `compadd`.
 */
const ZSH_TRIAL = String.raw`
zmodload zsh/zpty
zpty trial "zsh -f -i"
zpty -w trial "PS1=; unsetopt zle_bracketed_paste; fpath=($1 \$fpath); autoload -U compinit; compinit -u -d $1/dump"
zpty -w trial 'compadd() {
  local -a offered
  builtin compadd -O offered "$@"
  local word
  for word in $offered; do print -r -- $word >> '$1'/offered; done
  builtin compadd "$@"
}'
zpty -w trial "print rea''dy"
while zpty -r trial got; do [[ $got == *ready* ]] && break; done
zpty -w -n trial "$2"$'\t'
repeat 100; do sleep 0.05; [[ -s $1/offered ]] && break; done
sleep 0.2
zpty -d trial
sort -u $1/offered
rm $1/offered
`;
