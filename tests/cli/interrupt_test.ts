import { assertEquals } from "@std/assert";
import { tempFolder, writeFile } from "../support/models.ts";
import { startCli } from "./support.ts";

const SOURCE = new URL("../../src/cli/interrupt.ts", import.meta.url);

/** Runs a program with `interruptible` in a separate process: signals in this process would end the test runner. */
async function run(code: string): Promise<{ printed: string; signal: Deno.Signal | null }> {
  const program =
    `import { interruptible } from "${SOURCE}"; const hang = setInterval(() => {}, 1000); ${code}`;
  const { stdout, signal } = await new Deno.Command(Deno.execPath(), { args: ["eval", program] }).output();
  return { printed: new TextDecoder().decode(stdout).trim(), signal };
}

for (const name of ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"] as const) {
  Deno.test(`interruptible() lets the work clean up after ${name}, and the process ends by it`, async () => {
    const { printed, signal } = await run(`
      await interruptible("Interrupted, all is clean", (signal) => new Promise((_, reject) => {
        signal.addEventListener("abort", () => setTimeout(() => reject(signal.reason), 100));
        Deno.kill(Deno.pid, "${name}");
      })).catch((error) => console.log(error.message));
      clearInterval(hang);
    `);
    assertEquals([printed, signal], ["Interrupted, all is clean", name]);
  });

  Deno.test(`a process ends by ${name} that arrives after the work`, async () => {
    const { printed, signal } = await run(`
      console.log(await interruptible("Interrupted", async () => {
        Deno.kill(Deno.pid, "${name}");
        await new Promise((resolve) => setTimeout(resolve, 100));
        return 7;
      }));
      clearInterval(hang);
    `);
    assertEquals([printed, signal], ["7", name]);
  });

  Deno.test(`interruptible() ends blocked work by a second ${name}`, async () => {
    const { signal } = await run(`
      await interruptible("", (signal) => new Promise(() => {
        signal.addEventListener("abort", () => setTimeout(() => Deno.kill(Deno.pid, "${name}"), 100));
        Deno.kill(Deno.pid, "${name}");
      }));
    `);
    assertEquals(signal, name);
  });
}

Deno.test("interruptible() returns the work's result, and removes its listeners", async () => {
  const { printed, signal } = await run(`
    console.log(await interruptible("", () => Promise.resolve(7)));
    Deno.kill(Deno.pid, "SIGTERM");
  `);
  assertEquals([printed, signal], ["7", "SIGTERM"]);
});

Deno.test("interruptible() leaves signals ignored that the parent process ignores, as nohup does", async () => {
  const program = `import { interruptible } from "${SOURCE}";
    console.log(await interruptible("Interrupted", async () => {
      Deno.kill(Deno.pid, "SIGHUP");
      await new Promise((resolve) => setTimeout(resolve, 200));
      return 7;
    }));`;
  const { code, stdout } = await new Deno.Command("sh", {
    args: ["-c", 'trap "" HUP; exec "$@"', "sh", Deno.execPath(), "eval", program],
  }).output();
  assertEquals([code, new TextDecoder().decode(stdout)], [0, "7\n"]);
});

Deno.test("a process without permission to send signals ends with 128 plus the signal's number", async () => {
  const program = await Deno.makeTempFile({ suffix: ".ts" });
  await Deno.writeTextFile(
    program,
    `import { interruptible } from "${SOURCE}";
    const hang = setInterval(() => {}, 1000);
    await interruptible("Interrupted", (signal) => new Promise((_, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason));
      console.log("ready");
    })).catch(() => Deno.exitCode = 1);
    clearInterval(hang);`,
  );
  try {
    for (
      const [name, status] of [["SIGHUP", 129], ["SIGINT", 130], ["SIGQUIT", 131], ["SIGTERM", 143]] as const
    ) {
      const child = new Deno.Command(Deno.execPath(), {
        args: ["run", "--no-prompt", "--allow-read", program],
        stdout: "piped",
      }).spawn();
      const reader = child.stdout.getReader();
      await reader.read(); // it is ready
      child.kill(name);
      const { code, signal } = await child.status;
      assertEquals([code, signal], [status, null], name);
      await reader.cancel();
    }
  } finally {
    await Deno.remove(program);
  }
});

for (const name of ["SIGHUP", "SIGINT", "SIGTERM"] as const) {
  Deno.test(`load ends by ${name}`, async () => {
    await using folder = await tempFolder();
    const path = `${folder.path}/x.safetensors`;
    await writeFile(path, [{ name: "x", dtype: "U8", shape: [8] }]);
    const child = startCli("load", path, "--repeat", "100000000");
    await new Promise((resolve) => setTimeout(resolve, 1000)); // most likely it loads by now
    child.kill(name);
    assertEquals((await child.output()).signal, name);
  });
}
