/**
 * Draws charts by Vega-Lite, which is loaded only for drawing.
 */

/** The packages of npm that draw. */
export const PACKAGES = { vega: "npm:vega@6.2.0", vegaLite: "npm:vega-lite@6.4.1" } as const;

/** The functions in use. */
interface Vega {
  parse(spec: object): object;
  View: new (runtime: object, options: object) => { toSVG(): Promise<string> };
}
interface VegaLite {
  compile(spec: object): { spec: object };
}

/** The colours of series. */
export const CATEGORIES = ["#1f6f8b", "#e07a2f", "#6a4c93", "#3a9d5d", "#c0392b", "#7f8c8d"] as const;

/** The letters of all charts. */
export const FONT = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif";

/** A chart to draw. */
export interface ChartSpec {
  readonly name: string;
  /** Its specification for Vega-Lite. */
  readonly spec: object;
}

/** A drawn chart. */
export interface Chart {
  readonly name: string;
  readonly svg: string;
}

/**
 * Draws charts as SVG.
 *
 * @throws {TypeError} if the packages cannot be loaded
 */
export async function drawCharts(charts: readonly ChartSpec[]): Promise<Chart[]> {
  const vega: Vega = await import(PACKAGES.vega);
  const vegaLite: VegaLite = await import(PACKAGES.vegaLite);
  return await Promise.all(charts.map(async ({ name, spec }) => {
    const view = new vega.View(vega.parse(vegaLite.compile(spec).spec), { renderer: "none" });
    return { name, svg: `${await view.toSVG()}\n` };
  }));
}
