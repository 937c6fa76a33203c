/**
 * `repair`: completes or undoes saves that were interrupted.
 */
import { userId } from "../../ffi/variables.ts";
import { quote } from "../base/text.ts";
import { readError } from "../files/native/local_path.ts";
import { carryOutIfUnchanged, findLeftovers, type Repair } from "../save/repair.ts";
import { UsageError } from "./arguments.ts";
import type { Command } from "./command.ts";
import { formatCount, printable } from "./text.ts";

/** The command. */
export const repair: Command = {
  summary: "Complete or undo a save that was interrupted; shows what it will do and asks",
  inputs: "<folder>…",
  description:
    "A process that is killed while it renames a set of shards leaves a journal behind, and the set cannot be opened " +
    "until the save is completed. This command shows which files it will rename and remove, asks, and does it: the " +
    "new files get their names; if some of them are missing and none has its name yet, the old files are restored. " +
    "Only journals that you own are executed, and only files of their own set are changed.",
  options: {
    yes: { kind: "flag", help: "do it without asking" },
    json: { kind: "flag", help: "print the repairs as JSON; without --yes it only lists them" },
  },
  notes: "Without a terminal and without --yes, nothing is changed, and the exit status is 1.",
  examples: [
    ["repair model/", "show the rest of an interrupted save, and ask"],
    ["repair --yes model/", "complete it"],
  ],

  async run(args) {
    if (args.inputs.length === 0) throw new UsageError("No folder was named");
    const uid = userId();
    const json = args.flag("json"), yes = args.flag("yes");
    const say = (line: string) => json || console.log(line);
    const listed: (Repair & { readonly done: boolean })[] = [];
    const complaints: string[] = [];
    for (const input of args.inputs) {
      const folder = input.replace(/(?<=.)\/+$/, "");
      await checkFolder(folder);
      const { repairs, refused } = await findLeftovers(folder, uid);
      if (repairs.length === 0 && refused.length === 0) say(`Nothing to repair in ${printable(folder)}`);
      for (const found of repairs) {
        say(describe(found));
        const done = yes || !json && mayDo(found);
        if (done) {
          await carryOutIfUnchanged(found, uid);
          say(found.kind === "complete" ? "Completed" : "Undone");
        } else complaints.push(`Nothing was changed in ${folder}: --yes does it`);
        listed.push({ ...found, done });
      }
      complaints.push(...refused.map(({ message }) => message));
    }
    if (json) console.log(JSON.stringify({ repairs: listed, problems: complaints }, null, 2));
    if (complaints.length > 0) throw new Error(complaints.join("; "));
  },
};

/** @throws {ReadError} if the folder does not exist, or is not one */
async function checkFolder(folder: string): Promise<void> {
  try {
    if ((await Deno.stat(folder)).isDirectory) return;
  } catch (error) {
    throw readError(error, "open", folder);
  }
  throw new Error(`Cannot open ${quote(folder)}: it is not a folder`);
}

/** Asks the user, if stdin is a terminal. */
function mayDo({ kind }: Repair): boolean {
  return Deno.stdin.isTerminal() && confirm(kind === "complete" ? "Complete it?" : "Undo it?");
}

function describe({ path, stem, kind, renames, removals }: Repair): string {
  const what = kind === "complete" ? "can be completed" : "cannot be completed, and can be undone";
  return [
    `A save of ${quote(stem)} was interrupted and ${what} (${printable(path)}):`,
    ...renames.map(({ from, to }) => `  rename ${printable(from)} to ${printable(to)}`),
    ...removals.map((left) => `  remove ${printable(left)}`),
    `  remove ${printable(path)}`,
    `${formatCount(renames.length, "rename")}, ${formatCount(removals.length + 1, "removal")}`,
  ].join("\n");
}
