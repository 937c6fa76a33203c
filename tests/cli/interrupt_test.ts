import { assertEquals } from "@std/assert";

const SOURCE = new URL("../../src/cli/interrupt.ts", import.meta.url);

/** Runs a program that has `interruptible`, in a process of its own: signals here are the test runner's. */
async function run(code: string): Promise<{ printed: string; signal: Deno.Signal | null }> {
  const program =
    `import { interruptible } from "${SOURCE}"; const hang = setInterval(() => {}, 1000); ${code}`;
  const { stdout, signal } = await new Deno.Command(Deno.execPath(), { args: ["eval", program] }).output();
  return { printed: new TextDecoder().decode(stdout).trim(), signal };
}

for (const name of ["SIGINT", "SIGTERM"] as const) {
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

  Deno.test(`a process ends by ${name} that comes too late for the work to be interrupted`, async () => {
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

  Deno.test(`interruptible() lets a second ${name} end work that does not end`, async () => {
    const { signal } = await run(`
      await interruptible("", (signal) => new Promise(() => {
        signal.addEventListener("abort", () => setTimeout(() => Deno.kill(Deno.pid, "${name}"), 100));
        Deno.kill(Deno.pid, "${name}");
      }));
    `);
    assertEquals(signal, name);
  });
}

Deno.test("interruptible() gives what the work gives, and leaves no listener behind", async () => {
  const { printed, signal } = await run(`
    console.log(await interruptible("", () => Promise.resolve(7)));
    Deno.kill(Deno.pid, "SIGTERM");
  `);
  assertEquals([printed, signal], ["7", "SIGTERM"]);
});
