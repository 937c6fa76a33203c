/**
 * Python's huggingface_hub: an independent program that reads and writes the Hub's cache.
 */
import { exists } from "./skip.ts";

/** Every Python on the PATH: the first may lack the package that another one has. */
const PYTHONS = [...new Set((Deno.env.get("PATH") ?? "").split(":"))].map((folder) => `${folder}/python3`)
  .filter(exists);

let found: Promise<{ python: string; missing: string | null }> | undefined;

/** The path of a Python that has huggingface_hub; or the reason against it. */
export function findHubPython(): Promise<{ python: string; missing: string | null }> {
  return found ??= (async () => {
    for (const python of PYTHONS) {
      const { success } = await new Deno.Command(python, {
        args: ["-c", "import huggingface_hub"],
        stderr: "null",
      }).output();
      if (success) return { python, missing: null };
    }
    return { python: "", missing: "no python3 on the PATH has huggingface_hub" };
  })();
}

/**
 * Runs a script that prints JSON at its end; `hub` is huggingface_hub in it.
 *
 * @param env variables besides `PATH` and `HOME`
 * @throws {Error} if the script fails
 */
export async function hubPython(script: string, env: Readonly<Record<string, string>>): Promise<unknown> {
  const { python } = await findHubPython();
  const { success, stdout, stderr } = await new Deno.Command(python, {
    args: ["-c", `import json, huggingface_hub as hub\n${script}`],
    env: { HF_HUB_DISABLE_TELEMETRY: "1", HF_HUB_DISABLE_PROGRESS_BARS: "1", ...env },
  }).output();
  const decoder = new TextDecoder();
  if (!success) throw new Error(decoder.decode(stderr));
  return JSON.parse(decoder.decode(stdout).trim().split("\n").at(-1)!);
}
