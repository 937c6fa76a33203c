import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { tempFolder } from "./support/models.ts";

const ROOT = new URL("../", import.meta.url).pathname;

/** Runs these files with the command of `deno task test`; returns its status and output. */
async function run(files: Readonly<Record<string, string>>, ...options: string[]) {
  await using folder = await tempFolder();
  for (const [name, text] of Object.entries(files)) {
    const path = `${folder.path}/${name}`;
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    await Deno.writeTextFile(path, text);
  }
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", `${ROOT}tests/run.ts`, ...options, folder.path],
    env: { NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  return { code, printed: decoder.decode(stdout) + decoder.decode(stderr) };
}

const GOOD = `Deno.test("good", () => {}); Deno.test("also good", () => {});`;

Deno.test("task test adds up the tests of all files, and lists skipped tests with the reason", async () => {
  const { code, printed } = await run({
    "a_test.ts": GOOD,
    "b/c_test.ts": `Deno.test.ignore("MPI is skipped: there is no mpirun", () => {}); ${GOOD}`,
    "b/long_long_test.ts": "throw new Error()",
    "b/support.ts": "throw new Error()",
  });
  assertEquals(code, 0, printed);
  assertMatch(printed, /\nok \| 4 passed \| 0 failed \| 1 ignored \(/);
  assertMatch(printed, /\nSkipped:\n {2}.*\/b\/c_test\.ts: MPI is skipped: there is no mpirun\n/);
});

Deno.test("task test:long runs only the long tests", async () => {
  const { code, printed } = await run({ "a_long_test.ts": GOOD, "a_test.ts": "throw new Error()" }, "--long");
  assertEquals(code, 0, printed);
  assertMatch(printed, /\nok \| 2 passed \| 0 failed \| 0 ignored \(/);
});

Deno.test("task test fails after a failing test, a file that cannot run, or an early end of a process", async () => {
  const { code, printed } = await run({
    "a_test.ts": `Deno.test("bad", () => { throw new Error("the reason"); }); ${GOOD}`,
    "b_test.ts": `import "./none.ts";`,
    "c_test.ts": `Deno.test("ends", () => { Deno.kill(Deno.pid, "SIGKILL"); });`,
    "d_test.ts": GOOD,
  });
  assertEquals(code, 1, printed);
  assertMatch(printed, /\nFAILED \| 4 passed \| 3 failed \| 0 ignored \(/);
  assertStringIncludes(printed, "the reason");
});

Deno.test("the files of task test share neither environment variables nor the working folder", async () => {
  const files = Object.fromEntries(["a", "b", "c", "d"].map((name) => [
    `${name}_test.ts`,
    `Deno.test("alone", () => {
       if (Deno.env.get("SEEN") || Deno.cwd() === "/") throw new Error("another file was here");
       Deno.env.set("SEEN", "1");
       Deno.chdir("/");
     });`,
  ]));
  const { code, printed } = await run(files);
  assertEquals(code, 0, printed);
});

Deno.test("a test that asks for a WebGPU adapter opens no OpenGL driver, which can crash the end of its process", async () => {
  const { code, printed } = await run({
    "a_test.ts": `Deno.test("adapter", async () => {
      await navigator.gpu?.requestAdapter();
      const opened = /^.*(libEGL|libGL).*$/m.exec(Deno.readTextFileSync("/proc/self/maps"));
      if (opened) throw new Error(opened[0]);
    });`,
  });
  assertEquals(code, 0, printed);
});

Deno.test("task test passes options to deno test, and rejects paths without tests", async () => {
  const { printed } = await run({ "a_test.ts": GOOD }, "--filter=also");
  assertMatch(printed, /\nok \| 1 passed \| 0 failed \|/);
  const missing = await run({ "a_test.ts": GOOD }, "--filter", "also");
  assertEquals(missing.code, 2);
  assertStringIncludes(missing.printed, 'There is no "also"');
  const none = await run({ "a_test.ts": GOOD }, "--long");
  assert(none.code === 2 && none.printed.includes("no long tests at"), none.printed);
});
