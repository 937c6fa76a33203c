/**
 * The results of the measurement of scaling: JSON and a table.
 */
import { formatTable } from "../../src/cli/text.ts";
import { formatRatio, limitOf, type Measurement, type Result } from "../side_by_side/report.ts";
import { formatBinary } from "../storage/report.ts";
import { AXES, type Axis } from "./axes.ts";

/** One value on an axis. */
export interface Point {
  /** Bytes of the tensors, number of tensors, lanes, or ranks. */
  readonly value: number;
  /** Bytes of the files. */
  readonly bytes: number;
  /** This loader and the variants of the limit probe of its task. */
  readonly results: readonly Result[];
}

/** Everything that is written as JSON. */
export interface ScalingReport extends Measurement {
  /** An axis that was not measured is missing. */
  readonly axes: Readonly<Partial<Record<Axis, readonly Point[]>>>;
}

/** The loader's result of a point, and the best one of the limit probe. */
export function loaderAndLimit({ results }: Point): { loader: Result; limit: Result } {
  const loader = results.find(({ isLimit }) => !isLimit);
  const limit = loader && limitOf(results, loader.task ?? "read");
  if (!limit || !loader) throw new Error("A point of the scaling has no limit or no loader: measure again");
  return { loader, limit };
}

/** A formatted value: `64 MiB`, `10,000`. */
export function formatValue(axis: Axis, value: number): string {
  return axis === "bytes" || axis === "cast" ? formatBinary(value) : value.toLocaleString("en");
}

/** One table for all axes. */
export function formatScaling(axes: ScalingReport["axes"]): string {
  const rows = AXES.flatMap((axis) =>
    (axes[axis] ?? []).map((point) => {
      const { loader, limit } = loaderAndLimit(point);
      return [
        axis,
        formatValue(axis, point.value),
        loader.gigabytesPerSecond.toFixed(2),
        limit.gigabytesPerSecond.toFixed(2),
        formatRatio(loader.ofLimit, loader.spread),
        loader.ways.join(" / "),
      ];
    })
  );
  return formatTable([["along", "", "GB/s", "limit", "of limit", "way"], ...rows], [1, 2, 3, 4]);
}
