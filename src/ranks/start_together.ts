/** Starts a load on several ranks. */
import type { Catalog } from "../files/catalog.ts";
import type { Tensor } from "../load/tensor.ts";
import { type ModelDevices, type SafeTensorsModel, startModel } from "../model/model.ts";
import type { CheckedOptions } from "../model/options.ts";
import { together } from "./queue.ts";
import { shareTensors } from "./rank_tensors.ts";

/**
 * Starts a model on every rank; if that fails on one rank, it fails on all.
 *
 * @param catalog the catalog that the ranks have opened together
 * @throws {GroupError} on every rank if one fails
 */
export function startTogether<T extends Tensor>(
  catalog: Catalog,
  selected: ModelDevices<T>,
  options: CheckedOptions,
): Promise<SafeTensorsModel<T>> {
  const operation = { label: "load", signal: options.signal };
  const start = () => startModel(catalog, { ...selected, share: shareTensors }, options);
  return together(catalog.group, operation, start, (model) => model.close());
}
