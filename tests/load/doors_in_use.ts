/**
 * The doors that the load suite goes through: those of the package, or others that behave alike.
 */
import * as mod from "../../mod.ts";

/** What can be put in the place of the package's own. */
export interface Doors {
  readonly fastsafeOpen: (
    files: mod.Files,
    options?: mod.OpenOptions,
  ) => Promise<mod.SafeTensorsModel<mod.HostTensor>>;
  readonly SafeTensorsFileLoader: new (
    ...args: ConstructorParameters<typeof mod.SafeTensorsFileLoader<"cpu">>
  ) => mod.SafeTensorsFileLoader<"cpu">;
  readonly ParallelLoader: new (
    ...args: ConstructorParameters<typeof mod.ParallelLoader<"cpu">>
  ) => mod.ParallelLoader<"cpu">;
}

/** As the package's. */
export let { fastsafeOpen, SafeTensorsFileLoader, ParallelLoader }: Doors = mod;

/** Has the suite go through other doors. */
export function useDoors(doors: Doors): void {
  ({ fastsafeOpen, SafeTensorsFileLoader, ParallelLoader } = doors);
}
