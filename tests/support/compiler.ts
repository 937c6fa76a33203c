/**
 * The machine's C compiler.
 */

/** Where `cc` is, or why it cannot be used. */
export async function compiler(): Promise<{ path: string; missing: string | null }> {
  for (const folder of (Deno.env.get("PATH") ?? "").split(":")) {
    const path = `${folder}/cc`;
    const info = await Deno.stat(path).catch(() => null);
    if (info?.isFile) return { path, missing: null };
  }
  return { path: "cc", missing: 'there is no C compiler "cc" on the PATH' };
}
