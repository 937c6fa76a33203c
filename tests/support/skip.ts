/**
 * Suites that need what a machine may not have: they are skipped with one visible line that says why, or fail where
 * `FASTSAFETENSORS_TEST_REQUIRE` (a list with commas, or "all", perhaps with exceptions such as "all,-real-data") says
 * that this machine must run them.
 */

/** What a suite may need. */
export type Requirement =
  | "native"
  | "cuda"
  | "mpi"
  | "python"
  | "real-data"
  | "sanitizers"
  | "cross"
  | "unprivileged"
  | "mounts"
  | "stress"
  | "webgpu"
  | "npm"
  | "shells";

/** Whether the environment demands that suites with this need run. */
export function isRequired(requirement: Requirement): boolean {
  const required = (Deno.env.get("FASTSAFETENSORS_TEST_REQUIRE") ?? "").split(",").map((name) => name.trim());
  return required.includes(requirement) || required.includes("all") && !required.includes(`-${requirement}`);
}

/**
 * Defines a suite, or one test that stands for it where it cannot run.
 *
 * @param missing why it cannot run here; null where it can
 */
export function suite(
  name: string,
  requirement: Requirement,
  missing: string | null,
  define: () => void,
): void {
  if (missing === null) return define();
  if (isRequired(requirement)) {
    Deno.test(name, () => {
      throw new Error(`Cannot run "${name}", and FASTSAFETENSORS_TEST_REQUIRE demands it: ${missing}`);
    });
  } else {
    Deno.test.ignore(`${name} is skipped: ${missing}`, () => {});
  }
}

/** Whether there is something at a path. */
export function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
