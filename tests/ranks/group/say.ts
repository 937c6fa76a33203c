/**
 * What a rank says to the test that runs it, by way of files: launchers mix long lines that several ranks print at once.
 */

/** The environment variable with the folder for them. */
export const SAID = "RANKS_SAY_BELOW";

let count = 0;

/** Says something, whole or not at all; prints it where no test is listening. */
export function say(value: Readonly<Record<string, unknown>>): void {
  const folder = Deno.env.get(SAID);
  if (folder === undefined) return console.log(JSON.stringify(value));
  const path = `${folder}/${Deno.pid}-${String(count++).padStart(4, "0")}`;
  Deno.writeTextFileSync(path, JSON.stringify(value));
  Deno.renameSync(path, `${path}.json`);
}

/** What was said, each rank's in its order. */
export function heard<T>(folder: string): T[] {
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) =>
    name.endsWith(".json")
  );
  return names.sort().map((name) => JSON.parse(Deno.readTextFileSync(`${folder}/${name}`)));
}
