/**
 * The parts of the documentation that follow from the results: between two markers on a page.
 */
import type { ModelReport } from "../cuda_model/report.ts";
import { modelSection } from "../cuda_model/section.ts";
import { daySummary, stepTable } from "../gpu_day/page.ts";
import type { GpuDay } from "../gpu_day/results.ts";
import type { ScalingReport } from "../scaling/report.ts";
import type { Comparison } from "./comparisons.ts";
import type { Results } from "./results.ts";
import { comparisonTable, describeSource, scalingTable } from "./tables.ts";

/** The folder of the charts that the pages show, below the repository. */
export const CHARTS = "docs/charts";

const BEGIN = "<!-- results:begin -->", END = "<!-- results:end -->";

/** Path of a page below the repository → the text between its markers, formatted. */
export async function makeBlocks(
  { comparisons, scaling, gpuDay, cudaModel }: Results,
): Promise<Map<string, string>> {
  const readme = comparisons.flatMap((comparison) =>
    comparison.name === "side_by_side"
      ? [comparisonSection(comparison, CHARTS)]
      : comparison.name === "gpu"
      ? [`${comparison.title}: ${bestOf(comparison)} ([all figures](docs/benchmarks.md)).`]
      : []
  );
  const benchmarks = [
    ...comparisons.map((comparison) =>
      `### ${comparison.title}\n\n${comparisonSection(comparison, "charts", false)}`
    ),
    ...scaling ? [scalingSection(scaling)] : [],
    ...gpuDay ? [gpuDaySection(gpuDay)] : [],
    ...cudaModel ? [cudaModelSection(cudaModel)] : [],
  ];
  return new Map([
    ["README.md", await format(readme.join("\n\n"))],
    ["docs/benchmarks.md", await format(benchmarks.join("\n\n"))],
  ]);
}

/**
 * A page with a new text between its markers.
 *
 * @throws {Error} if the page has no markers
 */
export function replaceBlock(page: string, block: string): string {
  const begin = page.indexOf(BEGIN), end = page.indexOf(END);
  if (begin < 0 || end < begin) {
    throw new Error(
      `Cannot place the results: the page needs a line "${BEGIN}" and after it a line "${END}"`,
    );
  }
  return `${page.slice(0, begin + BEGIN.length)}\n\n${block}\n\n${page.slice(end)}`;
}

function comparisonSection(comparison: Comparison, folder: string, isTitled = true): string {
  const about = isTitled ? `${comparison.title}. ` : "";
  return [
    `${about}${comparison.note} Measured ${describeSource(comparison.source)}.`,
    picture(comparison.name, `${comparison.title}: ${bestOf(comparison)}; the table has all figures`, folder),
    comparisonTable(comparison),
  ].join("\n\n");
}

/** The highest rates of this package. */
function bestOf({ panels }: Comparison): string {
  return panels.map(({ title, entries }) => {
    const ours = entries.filter(({ isOurs }) => isOurs).map(({ gigabytesPerSecond }) => gigabytesPerSecond);
    return `${title.toLowerCase()} up to ${Math.max(...ours).toFixed(2)} GB/s`;
  }).join(", ");
}

function gpuDaySection(day: GpuDay): string {
  return ["### Proven on a GPU by `deno task gpu-day`", daySummary(day), stepTable(day)].join("\n\n");
}

function scalingSection(scaling: ScalingReport): string {
  const alt = "The rate of loading beside the machine's limit, by bytes, by number of tensors and by lanes";
  return [
    "### How loading scales",
    `Measured ${describeSource(scaling)}.`,
    picture("scaling", alt, "charts"),
    scalingTable(scaling),
  ].join("\n\n");
}

function cudaModelSection(report: ModelReport): string {
  const { name } = report.cases.find(({ bars }) => bars)!;
  const alt =
    `A model's timeline of loading ${name}: the driver, the lanes, the copies and the kernels over time`;
  return [...modelSection(report), picture("cuda_model", alt, "charts")].join("\n\n");
}

/** A chart for the reader's background. */
function picture(name: string, alt: string, folder: string): string {
  return `<picture>
  <source media="(prefers-color-scheme: dark)" srcset="${folder}/${name}_dark.svg">
  <img alt="${alt}" src="${folder}/${name}.svg">
</picture>`;
}

/** Markdown formatted by `deno fmt`: otherwise the formatter would change the page. */
async function format(text: string): Promise<string> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["fmt", "--quiet", "--ext", "md", "-"],
    cwd: new URL("../../", import.meta.url).pathname,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(text));
  await writer.close();
  const { success, stdout, stderr } = await child.output();
  const decoder = new TextDecoder();
  if (!success) throw new Error(`Cannot format the results: deno fmt: ${decoder.decode(stderr)}`);
  return decoder.decode(stdout).trim();
}
