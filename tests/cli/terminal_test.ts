import { assertEquals, assertMatch } from "@std/assert";
import { tempFolder } from "../support/models.ts";
import { suite } from "../support/skip.ts";
import { MAIN, runLineOnTerminal, runOnTerminal, whyNot } from "./support.ts";

suite("the command line on a terminal", "shells", whyNot("script"), () => {
  Deno.test("the command line is in colour on a terminal, unless NO_COLOR is set", async () => {
    assertMatch(await runOnTerminal({ NO_COLOR: "" }, "--help"), /^␛\[1mUsage:␛\[22m fastsafetensors /);
    assertMatch(await runOnTerminal({ NO_COLOR: "" }, "load"), /^␛\[31merror:␛\[39m No file/);
    for (const words of [["--help"], ["load"]]) {
      assertEquals((await runOnTerminal({ NO_COLOR: "1" }, ...words)).includes("␛"), false);
    }
  });

  Deno.test("the help fits the width of the terminal", async () => {
    for (const words of [["--help"], ["convert", "--help"], ["load", "--help"]]) {
      for (const columns of [60, 40]) {
        const line = [Deno.execPath(), "run", "-A", MAIN, ...words];
        const lines = (await runLineOnTerminal({ NO_COLOR: "1" }, line, columns)).split("\r\n");
        assertEquals(lines.filter((line) => line.length > columns), [], words.join(" "));
        assertMatch(lines[0]!, /^Usage: fastsafetensors/);
      }
    }
    const line = [Deno.execPath(), "run", "-A", MAIN, "convert", "--help"];
    assertMatch(
      await runLineOnTerminal({ NO_COLOR: "1" }, line, 60),
      /\n {2}fastsafetensors convert -i model\.pt -o \\\r\n {4}half\.safetensors --dtype BF16 --validate\r\n/,
    );
  });

  Deno.test("progress is drawn on a terminal and cleared at the end", async () => {
    await using folder = await tempFolder();
    const env = { NO_COLOR: "1", TMPDIR: folder.path };
    const got = await runOnTerminal(env, "demo", "--bytes", "600MB");
    assertMatch(got, /\r␛\[KWriting [█░]{20,40} \d[\d.]* \w+ of 600 MB/);
    assertMatch(got, /\r␛\[KLoaded \d+ tensors of 600 MB/);
    const plain = await runOnTerminal({ ...env, TERM: "dumb" }, "demo", "--bytes", "30MB");
    assertEquals(plain.includes("␛"), false);
  });
});
