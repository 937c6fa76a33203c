/**
 * Packages of npm that a suite may need.
 */

/** Why a package of npm cannot be had, or null. */
export async function whyNotNpm(specifier: string): Promise<string | null> {
  const { success } = await new Deno.Command(Deno.execPath(), {
    args: ["cache", "--quiet", "--no-config", specifier],
    stdout: "null",
    stderr: "null",
  }).output();
  return success ? null : `"${specifier}" cannot be had`;
}
