/**
 * Suites with requirements that a machine may lack: they are skipped with one visible line with the reason, or fail if
 * `FASTSAFETENSORS_TEST_REQUIRE` (a list with commas, or "all", with exceptions such as "all,-real-data") requires
 * them.
 */

/** The possible requirements of a suite. */
export type Requirement =
  | "native"
  | "cuda"
  | "mpi"
  | "python"
  | "hub-python"
  | "real-data"
  | "sanitizers"
  | "cross"
  | "unprivileged"
  | "mounts"
  | "stress"
  | "webgpu"
  | "npm"
  | "shells"
  | "nginx"
  | "vendor-cuda"
  | "vendor-cufile"
  | "vendor-nccl"
  | "vendor-open-mpi"
  | "vendor-mpich"
  | "ptxas";

/** Whether the environment requires suites with this requirement. */
export function isRequired(requirement: Requirement): boolean {
  const required = (Deno.env.get("FASTSAFETENSORS_TEST_REQUIRE") ?? "").split(",").map((name) => name.trim());
  return required.includes(requirement) || required.includes("all") && !required.includes(`-${requirement}`);
}

/**
 * Defines a suite, or one skipped test in its place if it cannot run.
 *
 * @param missing the reason that it cannot run here; null if it can
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

/** Whether a path exists. */
export function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
