/**
 * Every error class of the package.
 *
 * A wrong argument throws a built-in `TypeError` or `RangeError`; an abort rejects with the signal's reason. The classes
 * of this package carry data: the failure, its place, and advice.
 */

/** The kind of a {@linkcode SafeTensorsError}. The first group has the reference implementation's variants. */
export type SafeTensorsErrorCode =
  // Header: as in the reference implementation (safetensors 0.8.0)
  | "HeaderTooSmall"
  | "HeaderTooLarge"
  | "InvalidHeaderLength"
  | "InvalidHeader"
  | "InvalidHeaderDeserialization"
  | "InvalidOffset"
  | "ValidationOverflow"
  | "MisalignedSlice"
  | "TensorInvalidInfo"
  | "MetadataIncompleteBuffer"
  | "TensorNotFound"
  | "SliceOutOfRange"
  | "TooManySlices"
  | "InvalidTensorView"
  // Codes of this package
  | "DuplicateName"
  | "TooManyTensors"
  | "RankTooLarge"
  | "InvalidIndex"
  | "MissingShard"
  | "NoTensorFiles"
  | "SeveralModels"
  | "WrongFormat"
  | "UnsupportedCast"
  | "InvalidPickle"
  | "InvalidCheckpoint"
  | "UnsupportedCheckpoint"
  | "LimitExceeded"
  | "FileExists"
  | "InterruptedSave"
  | "InvalidConfig"
  | "ChecksumMismatch";

/** Details of a {@linkcode SafeTensorsError}. */
export interface SafeTensorsErrorDetails extends ErrorOptions {
  /** The file concerned. */
  path?: string | undefined;
  /** The tensor concerned. */
  tensor?: string | undefined;
  /** The actual format of the file, if another function can open it. */
  format?: "safetensors" | "pytorch" | undefined;
  /** Advice; it becomes the end of the message, after a colon. */
  advice?: string | undefined;
}

/** The content of a file or the name of a tensor is not valid. */
export class SafeTensorsError extends Error {
  /** The name of this class. */
  override readonly name: string = "SafeTensorsError";
  /** The kind of the error; for headers, the reference implementation's variant. */
  readonly code: SafeTensorsErrorCode;
  /** The file concerned, if there is one. */
  readonly path: string | undefined;
  /** The tensor concerned, if there is one. */
  readonly tensor: string | undefined;
  /** The actual format of the file, if another function can open it; the message names that function. */
  readonly format: "safetensors" | "pytorch" | undefined;
  /** The end of the message, if it is advice in terms of this API; a program can replace it in its own messages. */
  readonly advice: string | undefined;

  /** Makes an error with a code. */
  constructor(code: SafeTensorsErrorCode, message: string, details: SafeTensorsErrorDetails = {}) {
    super(details.advice === undefined ? message : `${message}: ${details.advice}`, details);
    this.code = code;
    this.path = details.path;
    this.tensor = details.tensor;
    this.format = details.format;
    this.advice = details.advice;
  }
}

/** Details of a {@linkcode ReadError}. */
export interface ReadErrorDetails extends ErrorOptions {
  /** The file. */
  path: string;
  /** File offset in bytes. */
  offset?: number;
  /** Bytes expected at the offset. */
  expected?: number;
  /** Bytes found at the offset. */
  actual?: number;
  /** The system's error number; 0 if the system reported no error but bytes are missing. */
  errno?: number;
}

/** A file could not be read: it was truncated, replaced or removed, or the system reported an error. */
export class ReadError extends Error {
  /** The name of this class. */
  override readonly name: string = "ReadError";
  /** The file. */
  readonly path: string;
  /** File offset in bytes. */
  readonly offset: number;
  /** Bytes expected at the offset. */
  readonly expected: number;
  /** Bytes found at the offset. */
  readonly actual: number;
  /** The system's error number; 0 if the system reported no error but bytes are missing. */
  readonly errno: number;

  /** Makes an error for a failed read. */
  constructor(message: string, details: ReadErrorDetails) {
    super(message, details);
    this.path = details.path;
    this.offset = details.offset ?? 0;
    this.expected = details.expected ?? 0;
    this.actual = details.actual ?? 0;
    this.errno = details.errno ?? 0;
  }
}

/** The kind of a {@linkcode RemoteError}. */
export type RemoteErrorCode =
  /** The server has no such file, model, revision or bucket. */
  | "NotFound"
  /** The server refused access: a token is missing, wrong, or lacks rights. */
  | "AccessDenied"
  /** The model is gated: its conditions must be accepted first. */
  | "Gated"
  /** The file was changed after its header was read. */
  | "Changed"
  /** The server could not be reached, or the connection was lost or stalled. */
  | "Unreachable"
  /** The server reported an error of its own, or asked for fewer requests. */
  | "ServerFailure"
  /** The answer does not fit the request, or was encoded, redirected or signed in a way that is not safe. */
  | "InvalidAnswer"
  /** The environment forbids requests. */
  | "Offline";

/** Details of a {@linkcode RemoteError}. */
export interface RemoteErrorDetails extends ReadErrorDetails {
  /** The kind of the error. */
  code: RemoteErrorCode;
  /** The HTTP status; 0 if there was no answer. */
  status?: number;
}

/** A file could not be read from a server. Messages and properties have no token and no signature. */
export class RemoteError extends ReadError {
  /** The name of this class. */
  override readonly name: string = "RemoteError";
  /** The kind of the error. */
  readonly code: RemoteErrorCode;
  /** The HTTP status; 0 if there was no answer. */
  readonly status: number;

  /** Makes an error for a failed request. */
  constructor(message: string, details: RemoteErrorDetails) {
    super(message, { ...details, ...details.code === "NotFound" && { errno: 2 } });
    this.code = details.code;
    this.status = details.status ?? 0;
  }
}

/** Details of a {@linkcode WriteError}. */
export interface WriteErrorDetails extends ErrorOptions {
  /** The file. */
  path: string;
  /** The system's error number; 0 if there is none. */
  errno?: number;
}

/** A file could not be written: no space, no permission, or another error of the system. No file was replaced. */
export class WriteError extends Error {
  /** The name of this class. */
  override readonly name: string = "WriteError";
  /** The file. */
  readonly path: string;
  /** The system's error number; 0 if there is none. */
  readonly errno: number;

  /** Makes an error for a failed write. */
  constructor(message: string, details: WriteErrorDetails) {
    super(message, details);
    this.path = details.path;
    this.errno = details.errno ?? 0;
  }
}

/** Details of a {@linkcode DeviceError}. */
export interface DeviceErrorDetails extends ErrorOptions {
  /** The library that reported it, such as "cudart", "cufile", "webgpu", "mpi", "nccl", "hf3fs". */
  library: string;
  /** The library's error number; 0 if there is none. */
  code?: number;
  /** The library's name of the error, such as "cudaErrorMemoryAllocation". */
  codeName?: string;
}

/** A device or its library is not available, rejected a call, or failed. */
export class DeviceError extends Error {
  /** The name of this class. */
  override readonly name: string = "DeviceError";
  /** The library that reported it. */
  readonly library: string;
  /** The library's error number; 0 if there is none. */
  readonly code: number;
  /** The library's name of the error; empty if there is none. */
  readonly codeName: string;

  /** Makes an error that a library reported. */
  constructor(message: string, details: DeviceErrorDetails) {
    super(message, details);
    this.library = details.library;
    this.code = details.code ?? 0;
    this.codeName = details.codeName ?? "";
  }
}

/** Details of an {@linkcode OutOfMemoryError}. */
export interface OutOfMemoryErrorDetails extends ErrorOptions {
  /** Advice; it becomes the end of the message, after a colon. */
  advice?: string | undefined;
}

/** There is not enough host or device memory. */
export class OutOfMemoryError extends Error {
  /** The name of this class. */
  override readonly name: string = "OutOfMemoryError";
  /** Bytes requested. */
  readonly requested: number;
  /** Bytes that were free at the request; -1 if unknown. */
  readonly free: number;
  /** The end of the message, if it is advice in terms of this API; a program can replace it in its own messages. */
  readonly advice: string | undefined;

  /** Makes an error for missing memory, in bytes. */
  constructor(message: string, requested: number, free: number, details: OutOfMemoryErrorDetails = {}) {
    super(details.advice === undefined ? message : `${message}: ${details.advice}`, details);
    this.requested = requested;
    this.free = free;
    this.advice = details.advice;
  }
}

/** An object was used after it was closed, disposed or released. */
export class UseAfterCloseError extends Error {
  /** The name of this class. */
  override readonly name: string = "UseAfterCloseError";
}

/** The ranks of a process group cannot continue: one has failed, is missing, or makes another call. */
export class GroupError extends Error {
  /** The name of this class. */
  override readonly name: string = "GroupError";
  /** The rank that caused the error; -1 if unknown. */
  readonly rank: number;
  /** The failure on that rank, with its message if there is one; empty if unknown. */
  readonly reason: string;

  /** Makes an error for a failed call of a group. */
  constructor(message: string, rank: number, reason: string, options?: ErrorOptions) {
    super(message, options);
    this.rank = rank;
    this.reason = reason;
  }
}
