/**
 * The doors that the load suite goes through: those of the package, or others that behave alike.
 */
import * as mod from "../../mod.ts";
import * as compat from "../../src/compat/mod.ts";

/** What can be put in the place of the package's own. */
export interface Doors {
  readonly fastsafeOpen: (
    files: mod.Files,
    options?: mod.OpenOptions,
  ) => Promise<mod.SafeTensorsModel<mod.HostTensor>>;
  readonly SafeTensorsFileLoader: new (
    ...args: ConstructorParameters<typeof compat.SafeTensorsFileLoader<"cpu">>
  ) => compat.SafeTensorsFileLoader<"cpu">;
  readonly ParallelLoader: new (
    ...args: ConstructorParameters<typeof compat.ParallelLoader<"cpu">>
  ) => compat.ParallelLoader<"cpu">;
}

/** As the package's. */
export let { fastsafeOpen, SafeTensorsFileLoader, ParallelLoader }: Doors = { ...mod, ...compat };

/** Has the suite go through other doors. */
export function useDoors(doors: Doors): void {
  ({ fastsafeOpen, SafeTensorsFileLoader, ParallelLoader } = doors);
}
