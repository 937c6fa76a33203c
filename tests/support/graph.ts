/**
 * Which modules a program loads.
 */

const ROOT = new URL("../../", import.meta.url);

/** What `deno info --json` says, as far as it is used here. */
interface Graph {
  readonly roots: readonly string[];
  readonly modules: readonly {
    readonly specifier: string;
    readonly dependencies?: readonly {
      readonly code?: { readonly specifier: string };
      readonly isDynamic?: boolean;
    }[];
  }[];
}

/** The modules that come with one of the repository: paths below the repository, and those of others as they are. */
export async function modulesOf(path: string): Promise<ReadonlySet<string>> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", new URL(path, ROOT).href],
  }).output();
  const graph: Graph = JSON.parse(new TextDecoder().decode(stdout));
  const modules = new Map(graph.modules.map((module) => [module.specifier, module]));
  const reached = new Set(graph.roots);
  for (const specifier of reached) {
    for (const { code, isDynamic } of modules.get(specifier)?.dependencies ?? []) {
      if (code && !isDynamic) reached.add(code.specifier);
    }
  }
  return new Set(reached.values().map((specifier) => specifier.replace(ROOT.href, "")));
}
