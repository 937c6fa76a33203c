/** The rows of a plan's columns as objects. */
import type { Placements } from "../../../src/load/layout.ts";
import type { RequestTable, TensorRequest } from "../../../src/load/request.ts";

/** The place of a request's bytes. */
export interface Place {
  readonly allocation: number;
  readonly offset: number;
  readonly byteLength: number;
}

/** The requests of a plan, in its order. */
export function requestsOf({ requests }: { readonly requests: RequestTable }): TensorRequest[] {
  return Array.from({ length: requests.size }, (_, row) => requests.at(row));
}

/** The place of each request. */
export function placesOf({ placements }: { readonly placements: Placements }): Place[] {
  const { allocations, offsets, byteLengths } = placements;
  return Array.from(allocations, (allocation, row) => {
    return { allocation, offset: offsets[row]!, byteLength: byteLengths[row]! };
  });
}
