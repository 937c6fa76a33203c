/**
 * Drawing of charts by Vega-Lite: loaded when there is something to draw, and by nothing else.
 */

/** The packages of npm that draw. */
export const PACKAGES = { vega: "npm:vega@6.2.0", vegaLite: "npm:vega-lite@6.4.1" } as const;

/** What is used of them. */
interface Vega {
  parse(spec: object): object;
  View: new (runtime: object, options: object) => { toSVG(): Promise<string> };
}
interface VegaLite {
  compile(spec: object): { spec: object };
}

/** Colours that series are told apart by. */
export const CATEGORIES = ["#1f6f8b", "#e07a2f", "#6a4c93", "#3a9d5d", "#c0392b", "#7f8c8d"] as const;

/** The letters of all charts. */
export const FONT = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif";

/** A chart that is to be drawn. */
export interface ChartSpec {
  readonly name: string;
  /** By the rules of Vega-Lite. */
  readonly spec: object;
}

/** A chart, ready to be written. */
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
