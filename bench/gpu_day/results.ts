/**
 * The results of a GPU day: what is written as JSON after every step.
 */
import type { DoctorReport } from "../../src/doctor/mod.ts";
import type { GpuReport } from "../gpu/report.ts";
import type { WebGpuReport } from "../report/comparisons.ts";

/**
 * How a step ended. "missing": the machine lacks what the step needs. "stopped": its time ran out; what it had printed
 * and written until then is in the result.
 */
export type StepStatus = "passed" | "failed" | "missing" | "stopped" | "not reached";

/** The counts of tests. */
export interface TestCounts {
  readonly passed: number;
  readonly failed: number;
  /** Names of skipped tests, with the reasons. */
  readonly skipped: readonly string[];
}

/** The result of one step. */
export interface StepResult {
  readonly name: string;
  readonly title: string;
  readonly status: StepStatus;
  /** Why the step did not pass, or what it had to do without; null if nothing is to be said. */
  readonly reason: string | null;
  readonly seconds: number;
  readonly limitSeconds: number;
  readonly tests?: TestCounts;
  /** Lines that the step reports. */
  readonly lines?: readonly string[];
  /** The figures of a benchmark, or the report of `doctor`. */
  readonly figures?: unknown;
  /** The end of the output of a step that did not pass. */
  readonly output?: string;
}

/** The results of a day. */
export interface GpuDay {
  /** Date and time in ISO 8601, UTC. */
  readonly made: string;
  readonly machine: Readonly<Record<string, string | number>>;
  /** Whether stand-ins took the place of the GPU: then no figure describes a GPU. */
  readonly isRehearsal: boolean;
  readonly limitSeconds: number;
  /** Seconds so far. */
  readonly seconds: number;
  readonly steps: readonly StepResult[];
}

/** The report of `doctor`; null if the step has none. */
export function doctorOf(day: Pick<GpuDay, "steps">): DoctorReport | null {
  return figuresOf<DoctorReport>(day, "doctor");
}

/** The figures of `bench:gpu`; null if there are none. */
export function loadsOf(day: Pick<GpuDay, "steps">): GpuReport | null {
  return figuresOf<GpuReport>(day, "bench");
}

/** The figures of `bench:webgpu`; null if there are none. */
export function webGpuLoadsOf(day: Pick<GpuDay, "steps">): WebGpuReport | null {
  return figuresOf<WebGpuReport>(day, "webgpu-bench");
}

function figuresOf<T>({ steps }: Pick<GpuDay, "steps">, name: string): T | null {
  return (steps.find((step) => step.name === name)?.figures ?? null) as T | null;
}
