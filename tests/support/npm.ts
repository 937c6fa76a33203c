/**
 * npm packages that a suite may need.
 */

/** The reason that an npm package is not available, or null. */
export async function whyNotNpm(specifier: string): Promise<string | null> {
  const { success } = await new Deno.Command(Deno.execPath(), {
    args: ["cache", "--quiet", "--no-config", specifier],
    stdout: "null",
    stderr: "null",
  }).output();
  return success ? null : `"${specifier}" cannot be had`;
}
