/**
 * The API that the load suite tests: the package's own, or a substitute with the same behaviour.
 */
import * as mod from "../../mod.ts";
import * as compat from "../../src/compat/mod.ts";

/** The functions and classes that can be substituted. */
export interface LoadApi {
  readonly fastsafeOpen: (
    files: mod.Files,
    options?: mod.OpenOptions<"cpu">,
  ) => Promise<mod.SafeTensorsModel<mod.HostTensor>>;
  readonly SafeTensorsFileLoader: new (
    ...args: ConstructorParameters<typeof compat.SafeTensorsFileLoader<"cpu">>
  ) => compat.SafeTensorsFileLoader<"cpu">;
  readonly ParallelLoader: new (
    ...args: ConstructorParameters<typeof compat.ParallelLoader<"cpu">>
  ) => compat.ParallelLoader<"cpu">;
}

/** The package's own by default. */
export let { fastsafeOpen, SafeTensorsFileLoader, ParallelLoader }: LoadApi = { ...mod, ...compat };

/** Substitutes the API for the suite. */
export function useApi(api: LoadApi): void {
  ({ fastsafeOpen, SafeTensorsFileLoader, ParallelLoader } = api);
}
