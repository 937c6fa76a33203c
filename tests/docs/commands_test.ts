import { assertEquals } from "@std/assert";
import { COMMANDS } from "../../src/cli/commands.ts";
import { firstCells, PAGES, read, ROOT } from "./pages.ts";

const CONFIG = JSON.parse(read("deno.json"));
const TASKS: Readonly<Record<string, { command: string }>> = CONFIG.tasks;

/** Every command line of the pages: the lines of "sh" blocks, and commands in backticks. */
const LINES: readonly { place: string; line: string; inBlock: boolean }[] = PAGES.flatMap(
  ({ path, blocks, prose }) => [
    ...blocks.filter(({ kind }) => kind === "sh").flatMap(({ place, text }) =>
      text.split("\n").filter((line) => line.trim() !== "").map((line) => ({ place, line, inBlock: true }))
    ),
    ...[...prose.matchAll(/`([^`\n]+)`/g)].map(([, line]) => line!)
      .filter((line) => /^([A-Z_]+=\S+ )*(deno|npx -y deno@[\d.]+|mpirun) /.test(line))
      .map((line) => ({ place: path, line, inBlock: false })),
  ],
);

/** A command line as words, without variables before `deno` and without a comment. */
function words(line: string): string[] {
  const plain = line.replace(/\s+#.*$/, "").replace(/^\s*([A-Z_]+=(\$\([^)]*\)|\S+)\s+)+/, "")
    .replace(/^mpirun -n \d+ /, "").replace(/^npx -y deno@[\d.]+/, "deno");
  return plain.match(/'[^']*'|"[^"]*"|\S+/g)!.map((word) => word.replace(/^(['"])(.*)\1$/, "$2"));
}

/** The fault of a command line; null if it could be run. */
function flaw(line: string): string | null {
  const [program, verb, first, ...rest] = words(line);
  if (program !== "deno") return `"${program}" is not known here`;
  if (verb === "task") {
    if (first === "--config") return rest[0] === "CLONE/deno.json" ? null : "no such configuration";
    const task = first === "--quiet" ? rest[0]! : first;
    return task === undefined || Object.hasOwn(TASKS, task) ? null : `there is no task "${task}"`;
  }
  if (verb === "run" || verb === "test") {
    const path = rest.find((word) => !word.startsWith("-")) ?? "";
    if (first !== "-A" && !first?.startsWith("--allow-")) return "it does not begin with permissions";
    if (path === "program.ts") return null; // the reader's own
    try {
      Deno.statSync(ROOT + path);
    } catch {
      return `there is no "${path}"`;
    }
    const filter = rest[rest.indexOf("--filter") + 1];
    if (!rest.includes("--filter")) return null;
    const names = [...read(path).matchAll(/Deno\.test\("([^"]+)"/g)].map(([, name]) => name!);
    return names.some((name) => name.includes(filter!)) ? null : `no test of "${path}" has "${filter}"`;
  }
  if (verb === "compile" || verb === "install" && rest.at(-1)!.endsWith(".ts")) {
    return Object.values(CONFIG.exports).includes(`./${rest.at(-1)}`) ? null : "no entry";
  }
  if (verb === "add" || verb === "install") {
    const specifier = [first, ...rest].find((word) => word?.startsWith("jsr:")) ?? "";
    const [name, entry] = [`jsr:${CONFIG.name}`, specifier.slice(`jsr:${CONFIG.name}`.length)];
    return specifier.startsWith(name) && Object.hasOwn(CONFIG.exports, `.${entry}`)
      ? null
      : `"${specifier}" is not exported`;
  }
  return `"deno ${verb}" is not known here`;
}

Deno.test("every command in the documentation could be run: programs, tasks, files and tests are there", () => {
  const flaws = LINES.map(({ place, line }) => ({ place, line, flaw: flaw(line) }));
  assertEquals(flaws.filter((each) => each.flaw !== null), []);
  assertEquals(LINES.filter(({ inBlock }) => inBlock).length > 5, true);
});

Deno.test("every task of deno.json has a description, and is named in the documentation", () => {
  const text = PAGES.map((page) => page.text).join("\n");
  for (const [name, task] of Object.entries(TASKS)) {
    assertEquals((task as { description?: string }).description !== undefined, true, name);
  }
  const unnamed = Object.keys(TASKS).filter((name) =>
    !new RegExp(`task (--quiet )?${name}(?![\\w:-])`).test(text)
  );
  assertEquals(unnamed, []);
});

Deno.test("the version of Deno is the same everywhere", () => {
  const pages = [...PAGES.map((page) => page.text), read(".ci/run")].join("\n");
  const versions = new Set(
    [...pages.matchAll(/deno@(\d[\d.]*\d)|Deno (\d+\.\d+\.\d+)/g)].map((m) => m[1] ?? m[2]),
  );
  assertEquals(versions.size, 1, [...versions].join());
});

/** The command of a task, without the way to the user's folder. */
function commandOf(task: string): string | undefined {
  return TASKS[task]?.command.replace('ROOT=$PWD && cd "$INIT_CWD" && ', "").replace(
    /"\$ROOT\/([^"]+)"/,
    "$1",
  );
}

/** The task, script or command of the command line that a line runs, and the options that the line gives it. */
function optionsGiven(line: string): { arguments: string[]; options: string[] } | null {
  const [, verb, ...rest] = words(line);
  const [first, ...more] = verb === "task" ? rest.filter((word) => word !== "--quiet") : rest.slice(1);
  if (first === undefined || verb !== "task" && verb !== "run") return null;
  const command = verb === "task" ? commandOf(first) : `deno run -A ${first}`;
  if (!command?.startsWith("deno run -A ")) return null;
  const options = more.flatMap((word) => /^\[?(--?[a-z][a-z0-9-]*)/.exec(word)?.[1] ?? []);
  return options.length === 0 ? null : { arguments: command.split(" ").slice(1), options };
}

Deno.test("every option that a command in the documentation is given stands in its help", async () => {
  const wanted = new Map<string, Set<string>>();
  for (const { line } of LINES) {
    const given = optionsGiven(line);
    if (!given) continue;
    const key = given.arguments.join(" ");
    wanted.set(key, (wanted.get(key) ?? new Set()).union(new Set(given.options)));
  }
  assertEquals([...wanted.keys()].some((command) => command.endsWith("src/cli/mod.ts load")), true);
  for (const [command, options] of wanted) {
    const { success, stdout } = await new Deno.Command(Deno.execPath(), {
      args: [...command.split(" "), "--help"],
      cwd: ROOT,
      env: { NO_COLOR: "1" },
    }).output();
    const help = new TextDecoder().decode(stdout);
    const unknown = options.keys().filter((option) => !new RegExp(`(^|\\s)${option}\\b`, "m").test(help));
    assertEquals([success, unknown.toArray()], [true, []], `deno ${command} --help`);
  }
});

Deno.test("docs/commands.md has every command of the command line, in order, and no other", () => {
  const commands = firstCells("docs/commands.md", "Commands").map((cell) =>
    /^(?:deno task|fastsafetensors) (\w+)/.exec(cell)![1]!
  );
  assertEquals(commands, Object.keys(COMMANDS));
});
