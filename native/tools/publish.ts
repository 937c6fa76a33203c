/**
 * `deno task publish [option of deno publish]…`: publishes to JSR. Checks first that JSR accepts the package's name, which
 * deno.json has as a placeholder until a scope is chosen.
 */

/**
 * Checks the name of a package by the rules of JSR's registry (api/src/ids.rs in jsr-io/jsr).
 *
 * @throws {TypeError} if JSR refuses it
 */
export function checkPackageName(name: string): void {
  const [, scope, rest] = /^@([^/]*)\/(.*)$/s.exec(name) ?? [];
  if (scope === undefined || rest === undefined) throw refusal(name, "it is not @scope/package");
  if (scope.length < 2 || scope.length > 20) throw refusal(name, "a scope has 2 to 20 characters");
  if (!/^[a-z0-9]+([.-][a-z0-9]+)*$/.test(scope)) {
    throw refusal(name, "a scope has lower-case letters, digits, and single hyphens or dots between them");
  }
  if (rest.length < 2 || rest.length > 58) throw refusal(name, "a package's name has 2 to 58 characters");
  if (!/^[a-z0-9]+(-[a-z0-9]+)*$/.test(rest)) {
    throw refusal(name, "a package's name has lower-case letters, digits, and single hyphens between them");
  }
}

function refusal(name: string, reason: string): TypeError {
  return new TypeError(`Cannot publish as "${name}": ${reason}: set another "name" in deno.json`);
}

/** The part of deno.json that publishing changes. */
interface Configuration {
  readonly name: string;
  readonly imports: Readonly<Record<string, string>>;
  readonly publish: { readonly include: readonly string[] };
}

/**
 * Returns the configuration to publish: JSR's packages take the place of the stand-ins in `links`, of which deno.json
 * includes one for the publishing trial of `deno task check`.
 */
export function publishedConfiguration<C extends Configuration>(configuration: C): C {
  const imports = Object.keys(configuration.imports).map((name) => {
    return [name, name.replace(/^@std\/[a-z]+/, (scoped) => `jsr:${scoped}@^1`)] as const;
  });
  const include = configuration.publish.include.filter((path) => !path.startsWith("links/"));
  return {
    ...configuration,
    imports: Object.fromEntries(imports),
    publish: { ...configuration.publish, include },
  };
}

if (import.meta.main) {
  const root = new URL("../../", import.meta.url).pathname;
  const configuration: Configuration = JSON.parse(await Deno.readTextFile(`${root}deno.json`));
  try {
    checkPackageName(configuration.name);
  } catch (error) {
    console.error((error as Error).message);
    Deno.exit(1);
  }
  const path = `${root}deno.publish.json`; // git ignores it
  await Deno.writeTextFile(path, JSON.stringify(publishedConfiguration(configuration)));
  try {
    const args = ["publish", "--config", path, ...Deno.args];
    const { code } = await new Deno.Command(Deno.execPath(), { args, cwd: root }).spawn().status;
    Deno.exitCode = code;
  } finally {
    await Deno.remove(path);
  }
}
