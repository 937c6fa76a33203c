/**
 * From how a call ended to the error that tells of it.
 */
import { CALL_STATUS, type GroupCall } from "../../ffi/group_call.ts";
import { DeviceError, GroupError } from "../base/errors.ts";
import { type CallRecord, decodeRecord, describeCall, describeDifference } from "./call_record.ts";

/** What is told besides the call itself. */
export interface FailureContext {
  /** This rank. */
  readonly rank: number;
  /** The library that moves the bytes. */
  readonly library: "mpi" | "nccl";
  /** The group's limit. */
  readonly timeoutSeconds: number;
}

/** The error of a call that did not end well. */
export function callFailure(call: GroupCall, context: FailureContext): GroupError {
  const own = decodeRecord(call.own);
  switch (call.status) {
    case CALL_STATUS.refused: {
      const { rank, failure } = decodeRecord(call.other);
      return rankFailure(rank, failure ?? "");
    }
    case CALL_STATUS.different:
      return differenceFailure(decodeRecord(call.reference), decodeRecord(call.other));
    case CALL_STATUS.gone:
      return call.message === ""
        ? departure(call.failedRank, own)
        : toldFailure(call.failedRank, call.message);
    case CALL_STATUS.timedOut:
      return timeout(call.failedRank, call.message, own, context.timeoutSeconds);
    case CALL_STATUS.cancelled:
      return rankFailure(context.rank, "the process ends");
    case CALL_STATUS.library:
      return libraryFailure(call, context, context.library);
    case CALL_STATUS.cuda:
      return libraryFailure(call, context, "cudart");
    default:
      return rankFailure(context.rank, `there is no memory for ${describeCall(own)}`);
  }
}

/** A rank has failed, and says why. */
export function rankFailure(rank: number, reason: string, options?: ErrorOptions): GroupError {
  return new GroupError(`Rank ${rank} failed: ${reason}`, rank, reason, options);
}

/** What another rank has said to all: a message as made here, whose reason is behind the first colon. */
export function toldFailure(rank: number, message: string): GroupError {
  return new GroupError(message, rank, message.slice(message.indexOf(": ") + 2));
}

/** Two ranks make different calls. */
export function differenceFailure(reference: CallRecord, other: CallRecord): GroupError {
  const difference = describeDifference(reference, other);
  return new GroupError(`The ranks do not make the same calls: ${difference}`, other.rank, difference);
}

/** A rank has gone without a word. */
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

function libraryFailure(call: GroupCall, { rank }: FailureContext, library: string): GroupError {
  const what = describeCall(decodeRecord(call.own));
  const cause = new DeviceError(`Cannot complete ${what}: ${call.message}`, { library, code: call.code });
  return rankFailure(rank, `${what}: ${call.message}`, { cause });
}
