/**
 * The variables in which a launcher describes this process and the others.
 */
import { environmentVariable } from "../../../ffi/variables.ts";
import { quote } from "../../base/text.ts";

/** The place of a process among those that were started with it. */
export interface LaunchPlace {
  readonly rank: number;
  readonly size: number;
  /** Number among the processes of this machine. */
  readonly localRank: number;
  /** The host name or address of rank 0. */
  readonly address: string;
  /** The port there. */
  readonly port: number;
  /** The name of the job; empty if the launcher does not set it. */
  readonly job: string;
  /** The secret that every rank must know; empty: none. */
  readonly secret: string;
}

const RANK = ["RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK"];
const SIZE = ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"];
const LOCAL_RANK = ["LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"];

/**
 * Reads the variables that torchrun sets (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), or for the first
 * three those of an MPI launcher, and FASTSAFETENSORS_GROUP_SECRET; the properties of `given` have precedence.
 *
 * With TORCHELASTIC_USE_AGENT_STORE, torchrun's own store listens at MASTER_PORT, and the ranks meet at the next port.
 *
 * @throws {TypeError} that names a missing value
 * @throws {RangeError} if a number is out of range
 */
export function launchPlace(given: Partial<Omit<LaunchPlace, "localRank" | "job">> = {}): LaunchPlace {
  const rank = given.rank ?? number(RANK, "rank");
  const size = given.size ?? number(SIZE, "size");
  if (!Number.isInteger(rank) || !Number.isInteger(size) || rank < 0 || rank >= size) {
    throw new RangeError(`There is no rank ${rank} of ${size}`);
  }
  const localRank = number(LOCAL_RANK, "local rank", rank);
  const job = environmentVariable("TORCHELASTIC_RUN_ID") ?? "";
  const secret = given.secret ?? environmentVariable("FASTSAFETENSORS_GROUP_SECRET") ?? "";
  // The value is not shown, as the message may be logged.
  if (typeof secret !== "string") throw new TypeError("The option secret must be a string");
  if (secret.length > 1024) throw new RangeError("The option secret must have at most 1024 characters");
  if (size === 1) return { rank, size, localRank, address: "", port: 0, job, secret }; // no other rank
  const address = given.address ?? environmentVariable("MASTER_ADDR");
  if (address === undefined) {
    throw new TypeError('Cannot find rank 0: "MASTER_ADDR" is not set, or may not be read');
  }
  const taken = environmentVariable("TORCHELASTIC_USE_AGENT_STORE") === "True" ? 1 : 0;
  const port = given.port ?? number(["MASTER_PORT"], "port of rank 0") + taken;
  if (!Number.isInteger(port) || port < 1 || port > 65535) {
    throw new RangeError(`Port ${port} is not from 1 to 65535`);
  }
  return { rank, size, localRank, address, port, job, secret };
}

/** Returns the number in the first of these variables that is set. */
function number(names: readonly string[], what: string, byDefault?: number): number {
  const name = names.find((name) => environmentVariable(name) !== undefined);
  if (name !== undefined) {
    const text = environmentVariable(name)!;
    if (/^\d{1,9}$/.test(text)) return Number(text);
    throw new RangeError(`${quote(name)} must be a whole number, got ${quote(text)}`);
  }
  if (byDefault !== undefined) return byDefault;
  throw new TypeError(
    `Cannot find the ${what}: none of ${names.map(quote).join(", ")} is set, or may be read`,
  );
}
