/**
 * Errors of calls.
 */
import { CALL_STATUS, type GroupCall } from "../../../ffi/group_call.ts";
import { DeviceError, GroupError } from "../../base/errors.ts";
import { type CallRecord, describeCall, describeDifference } from "./call_record.ts";

/** The context of a failure. */
export interface FailureContext {
  /** What this rank calls. */
  readonly record: CallRecord;
  /** The rank that bytes come from or go to, if it is one. */
  readonly peer?: number;
  /** The library that moves the bytes. */
  readonly library: "mpi" | "nccl";
  /** The group's limit. */
  readonly timeoutSeconds: number;
}

/** The error of a call whose bytes did not move. */
export function callFailure(call: GroupCall, context: FailureContext): GroupError {
  const { record, peer = -1, library, timeoutSeconds } = context;
  switch (call.status) {
    case CALL_STATUS.timedOut:
      return timeout(peer, "", record, timeoutSeconds);
    case CALL_STATUS.cancelled:
      return rankFailure(record.rank, "the process ends");
    case CALL_STATUS.library:
      return libraryFailure(call, record, library);
    case CALL_STATUS.cuda:
      return libraryFailure(call, record, "cudart");
    default:
      return rankFailure(record.rank, `there is no memory for ${describeCall(record)}`);
  }
}

/** A rank has failed, and says why. */
export function rankFailure(rank: number, reason: string, options?: ErrorOptions): GroupError {
  return new GroupError(`Rank ${rank} failed: ${reason}`, rank, reason, options);
}

/** The failure that another rank has sent: a message made by this module, with the reason after the first colon. */
export function receivedFailure(rank: number, message: string): GroupError {
  return new GroupError(message, rank, message.slice(message.indexOf(": ") + 2));
}

/** Two ranks make different calls. */
export function differenceFailure(reference: CallRecord, other: CallRecord): GroupError {
  const difference = describeDifference(reference, other);
  return new GroupError(`The ranks do not make the same calls: ${difference}`, other.rank, difference);
}

/** A rank has ended without a reason. */
export function departure(rank: number, waitedIn: CallRecord): GroupError {
  const reason = `it left the group before ${describeCall(waitedIn)}`;
  return new GroupError(`Rank ${rank} is gone: ${reason}`, rank, reason);
}

/** Ranks (a list in words, or none known) that did not come. */
export function timeout(rank: number, missing: string, own: CallRecord, seconds: number): GroupError {
  if (missing === "") {
    const reason = `nothing moved for ${seconds} seconds in ${describeCall(own)}`;
    return new GroupError(`The ranks wait for each other: ${reason}`, rank, reason);
  }
  const ranks = missing.includes(",") ? `Ranks ${missing} are` : `Rank ${missing} is`;
  const reason = `no answer for ${seconds} seconds to ${describeCall(own)}`;
  return new GroupError(`${ranks} missing: ${reason}`, rank, reason);
}

function libraryFailure(call: GroupCall, record: CallRecord, library: string): GroupError {
  const what = describeCall(record);
  const cause = new DeviceError(`Cannot complete ${what}: ${call.message}`, { library, code: call.code });
  return rankFailure(record.rank, `${what}: ${call.message}`, { cause });
}
