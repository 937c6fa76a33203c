/**
 * Every error class of the package.
 *
 * A wrong argument is a built-in `TypeError` or `RangeError`, an abort rejects with the signal's reason;
 * these classes exist to carry data: what failed, where, and what to do about it.
 */

/** What a {@linkcode SafeTensorsError} is about. The first group are the reference implementation's variants. */
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
  // Ours
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
  | "InvalidConfig";

/** Where a {@linkcode SafeTensorsError} happened. */
export interface SafeTensorsErrorDetails extends ErrorOptions {
  /** The file concerned. */
  path?: string | undefined;
  /** The tensor concerned. */
  tensor?: string | undefined;
  /** The format that the file really has, where another function opens it. */
  format?: "safetensors" | "pytorch" | undefined;
  /** What to do about it: it becomes the end of the message, after a colon. */
  advice?: string | undefined;
}

/** Something about the content of a file, or the name of a tensor, is wrong. */
export class SafeTensorsError extends Error {
  /** The name of this class. */
  override readonly name: string = "SafeTensorsError";
  /** What kind of wrong; for headers, the reference implementation's variant. */
  readonly code: SafeTensorsErrorCode;
  /** The file concerned, where there is one. */
  readonly path: string | undefined;
  /** The tensor concerned, where there is one. */
  readonly tensor: string | undefined;
  /** The format that the file really has, where another function opens it: the message names that function. */
  readonly format: "safetensors" | "pytorch" | undefined;
  /** The end of the message where that says what to do in the words of this API; a program may put it in its own. */
  readonly advice: string | undefined;

  /** Describes a fault by its code. */
  constructor(code: SafeTensorsErrorCode, message: string, details: SafeTensorsErrorDetails = {}) {
    super(details.advice === undefined ? message : `${message}: ${details.advice}`, details);
    this.code = code;
    this.path = details.path;
    this.tensor = details.tensor;
    this.format = details.format;
    this.advice = details.advice;
  }
}

/** What a {@linkcode ReadError} carries. */
export interface ReadErrorDetails extends ErrorOptions {
  /** The file. */
  path: string;
  /** Where in the file, in bytes. */
  offset?: number;
  /** How many bytes were expected there. */
  expected?: number;
  /** How many there were. */
  actual?: number;
  /** The system's error number; 0 where the system reported success but the bytes were not there. */
  errno?: number;
}

/** A file could not be read as far as its header promised: truncated, replaced, removed, or the system refused. */
export class ReadError extends Error {
  /** The name of this class. */
  override readonly name: string = "ReadError";
  /** The file. */
  readonly path: string;
  /** Where in the file, in bytes. */
  readonly offset: number;
  /** How many bytes were expected there. */
  readonly expected: number;
  /** How many there were. */
  readonly actual: number;
  /** The system's error number; 0 where the bytes were simply not there. */
  readonly errno: number;

  /** Describes a failed read. */
  constructor(message: string, details: ReadErrorDetails) {
    super(message, details);
    this.path = details.path;
    this.offset = details.offset ?? 0;
    this.expected = details.expected ?? 0;
    this.actual = details.actual ?? 0;
    this.errno = details.errno ?? 0;
  }
}

/** What a {@linkcode WriteError} carries. */
export interface WriteErrorDetails extends ErrorOptions {
  /** The file. */
  path: string;
  /** The system's error number; 0 where it has none. */
  errno?: number;
}

/** A file could not be written: no space, no permission, or the system refused. Nothing has been replaced. */
export class WriteError extends Error {
  /** The name of this class. */
  override readonly name: string = "WriteError";
  /** The file. */
  readonly path: string;
  /** The system's error number; 0 where it has none. */
  readonly errno: number;

  /** Describes a failed write. */
  constructor(message: string, details: WriteErrorDetails) {
    super(message, details);
    this.path = details.path;
    this.errno = details.errno ?? 0;
  }
}

/** What a {@linkcode DeviceError} carries. */
export interface DeviceErrorDetails extends ErrorOptions {
  /** The library that reported it, such as "cudart", "cufile", "webgpu", "mpi", "nccl", "hf3fs". */
  library: string;
  /** The library's error number; 0 where it has none. */
  code?: number;
  /** The library's name for it, such as "cudaErrorMemoryAllocation". */
  codeName?: string;
}

/** A device or a library that drives one is absent, refused, or failed. */
export class DeviceError extends Error {
  /** The name of this class. */
  override readonly name: string = "DeviceError";
  /** The library that reported it. */
  readonly library: string;
  /** The library's error number; 0 where it has none. */
  readonly code: number;
  /** The library's name for the error; empty where it has none. */
  readonly codeName: string;

  /** Describes what a library reported. */
  constructor(message: string, details: DeviceErrorDetails) {
    super(message, details);
    this.library = details.library;
    this.code = details.code ?? 0;
    this.codeName = details.codeName ?? "";
  }
}

/** Details of an {@linkcode OutOfMemoryError}. */
export interface OutOfMemoryErrorDetails extends ErrorOptions {
  /** What to do about it: it becomes the end of the message, after a colon. */
  advice?: string | undefined;
}

/** Host or device memory does not suffice. */
export class OutOfMemoryError extends Error {
  /** The name of this class. */
  override readonly name: string = "OutOfMemoryError";
  /** Bytes asked for. */
  readonly requested: number;
  /** Bytes that were free when it was asked; -1 where that is not known. */
  readonly free: number;
  /** The end of the message where that says what to do in the words of this API; a program may put it in its own. */
  readonly advice: string | undefined;

  /** Describes a lack of memory, in bytes. */
  constructor(message: string, requested: number, free: number, details: OutOfMemoryErrorDetails = {}) {
    super(details.advice === undefined ? message : `${message}: ${details.advice}`, details);
    this.requested = requested;
    this.free = free;
    this.advice = details.advice;
  }
}

/** Something was used after it had been closed, disposed or handed out for good. */
export class UseAfterCloseError extends Error {
  /** The name of this class. */
  override readonly name: string = "UseAfterCloseError";
}

/** Ranks of a process group do not get any further together: one has failed, is missing, or calls something else. */
export class GroupError extends Error {
  /** The name of this class. */
  override readonly name: string = "GroupError";
  /** The rank at fault, in the numbers of the group; -1 where that is not known. */
  readonly rank: number;
  /** What happened there, in its own words where it had any; empty where that is not known. */
  readonly reason: string;

  /** Describes what came between the ranks. */
  constructor(message: string, rank: number, reason: string, options?: ErrorOptions) {
    super(message, options);
    this.rank = rank;
    this.reason = reason;
  }
}
