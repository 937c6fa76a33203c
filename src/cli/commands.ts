/**
 * All commands.
 */
import { cache } from "./cache.ts";
import type { Commands } from "./command.ts";
import { completionsCommand } from "./completions/command.ts";
import { convert } from "./convert.ts";
import { demo } from "./demo.ts";
import { doctorCommand } from "./doctor.ts";
import { fetchCommand } from "./fetch.ts";
import { helpCommand } from "./help.ts";
import { inspect } from "./inspect.ts";
import { load } from "./load.ts";
import { repair } from "./repair.ts";
import { verify } from "./verify.ts";

/** The commands, in the order of the help. */
export const COMMANDS: Commands = {
  load,
  inspect,
  verify,
  convert,
  demo,
  doctor: doctorCommand,
  repair,
  fetch: fetchCommand,
  cache,
  completions: completionsCommand(() => COMMANDS),
  help: helpCommand(() => COMMANDS),
};
