import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { checkPackageName, publishedConfiguration } from "../../native/tools/publish.ts";
import { read, ROOT } from "../docs/pages.ts";

Deno.test("checkPackageName() accepts names by JSR's rules", () => {
  for (
    const name of [
      "@std/assert",
      "@ab/cd",
      "@deno-drivers/sqlite3",
      `@${"s".repeat(20)}/${"p".repeat(58)}`,
      "@a.b/c-d",
    ]
  ) {
    checkPackageName(name);
  }
});

Deno.test("checkPackageName() rejects names that JSR refuses", () => {
  const names = [
    "@x/fastsafetensors",
    "fastsafetensors",
    "@ab",
    "@ab/c",
    "@Ab/cd",
    "@ab_c/de",
    "@-ab/cd",
    "@ab-/cd",
  ];
  names.push(
    "@a--b/cd",
    "@a..b/cd",
    `@${"s".repeat(21)}/cd`,
    `@ab/${"p".repeat(59)}`,
    "@ab/c.d",
    "@ab/c_d",
    "@ab/cd-",
  );
  for (const name of names) {
    assertThrows(() => checkPackageName(name), TypeError, `Cannot publish as "${name}"`);
  }
});

Deno.test("deno task publish ends before it publishes under the placeholder scope", async () => {
  const { tasks } = JSON.parse(read("deno.json")) as { tasks: Record<string, { command: string }> };
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: tasks["publish"]!.command.split(" ").slice(1),
    cwd: ROOT,
  }).output();
  assertEquals(code, 1);
  assertStringIncludes(
    new TextDecoder().decode(stderr),
    'Cannot publish as "@x/fastsafetensors": a scope has 2 to 20',
  );
});

Deno.test("the published configuration imports JSR's packages, and has no stand-ins of them", () => {
  const configuration = JSON.parse(read("deno.json"));
  const { imports, publish, ...others } = publishedConfiguration(configuration);
  assertEquals(imports, {
    "@std/assert": "jsr:@std/assert@^1",
    "@std/cli/parse-args": "jsr:@std/cli@^1/parse-args",
  });
  assertEquals(configuration.publish, {
    ...publish,
    include: publish.include.toSpliced(publish.include.indexOf("docs"), 0, "links/cli"),
  });
  assertEquals({ ...others, imports: configuration.imports, publish: configuration.publish }, configuration);
});

Deno.test("a publishing trial has no errors", async () => {
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["publish", "--dry-run", "--allow-dirty", "--quiet", "--no-check"],
    cwd: ROOT,
  }).output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
});
