/**
 * The first half of `deno task publish`: checks that JSR accepts the package's name, which deno.json has as a placeholder
 * until a scope is chosen.
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

if (import.meta.main) {
  const { name } = JSON.parse(await Deno.readTextFile(new URL("../../deno.json", import.meta.url)));
  try {
    checkPackageName(name);
  } catch (error) {
    console.error((error as Error).message);
    Deno.exit(1);
  }
}
