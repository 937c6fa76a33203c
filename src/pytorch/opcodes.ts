/** The opcodes of Python's pickle, protocols 0 to 5, and the lengths of their arguments. */

/** The supported opcodes: each pushes data on a stack, or rearranges the stack. */
export const Op = {
  MARK: 0x28,
  EMPTY_TUPLE: 0x29,
  STOP: 0x2e,
  POP: 0x30,
  POP_MARK: 0x31,
  DUP: 0x32,
  BINBYTES: 0x42,
  SHORT_BINBYTES: 0x43,
  FLOAT: 0x46,
  BINFLOAT: 0x47,
  INT: 0x49,
  BININT: 0x4a,
  BININT1: 0x4b,
  LONG: 0x4c,
  BININT2: 0x4d,
  NONE: 0x4e,
  BINPERSID: 0x51,
  REDUCE: 0x52,
  STRING: 0x53,
  BINSTRING: 0x54,
  SHORT_BINSTRING: 0x55,
  UNICODE: 0x56,
  BINUNICODE: 0x58,
  EMPTY_LIST: 0x5d,
  APPEND: 0x61,
  BUILD: 0x62,
  GLOBAL: 0x63,
  DICT: 0x64,
  APPENDS: 0x65,
  GET: 0x67,
  BINGET: 0x68,
  INST: 0x69,
  LONG_BINGET: 0x6a,
  LIST: 0x6c,
  OBJ: 0x6f,
  PUT: 0x70,
  BINPUT: 0x71,
  LONG_BINPUT: 0x72,
  SETITEM: 0x73,
  TUPLE: 0x74,
  SETITEMS: 0x75,
  EMPTY_DICT: 0x7d,
  PROTO: 0x80,
  NEWOBJ: 0x81,
  EXT1: 0x82,
  EXT2: 0x83,
  EXT4: 0x84,
  TUPLE1: 0x85,
  TUPLE2: 0x86,
  TUPLE3: 0x87,
  NEWTRUE: 0x88,
  NEWFALSE: 0x89,
  LONG1: 0x8a,
  LONG4: 0x8b,
  SHORT_BINUNICODE: 0x8c,
  BINUNICODE8: 0x8d,
  BINBYTES8: 0x8e,
  EMPTY_SET: 0x8f,
  ADDITEMS: 0x90,
  FROZENSET: 0x91,
  NEWOBJ_EX: 0x92,
  STACK_GLOBAL: 0x93,
  MEMOIZE: 0x94,
  FRAME: 0x95,
  BYTEARRAY8: 0x96,
} as const;

/** The refused opcodes and the reasons: they refer to data outside the pickle. */
const REFUSED: Readonly<Record<number, readonly [name: string, reason: string]>> = {
  0x50: ["PERSID", "refers to something outside the pickle by a line of text, which PyTorch does not write"],
  0x97: ["NEXT_BUFFER", "asks for a buffer that was saved outside this file"],
  0x98: ["READONLY_BUFFER", "is about a buffer that was saved outside this file"],
};

const NAMES: Readonly<Record<number, string>> = {
  ...Object.fromEntries(Object.entries(REFUSED).map(([code, [name]]) => [code, name])),
  ...Object.fromEntries(Object.entries(Op).map(([name, code]) => [code, name])),
};

/** An opcode for a message: its name if Python has one, and its byte. */
export function opcodeName(code: number): string {
  const hex = `0x${code.toString(16).padStart(2, "0")}`;
  return NAMES[code] === undefined ? hex : `${NAMES[code]} (${hex})`;
}

/** The reason why an opcode outside {@linkcode Op} cannot be read. */
export function refusalOf(code: number): string {
  return REFUSED[code]?.[1] ?? "does not exist";
}

// The argument of an opcode: this many bytes, or one of the five forms below.
const COUNTED_BY_1 = -1;
const COUNTED_BY_4 = -4;
const COUNTED_BY_8 = -8;
const ONE_LINE = -11;
const TWO_LINES = -12;
const NOT_LISTED = -128;

const ARGUMENT = new Int8Array(256).fill(NOT_LISTED);
const FORMS: readonly (readonly [form: number, ...codes: number[]])[] = [
  [0, ...Object.values(Op)],
  [1, Op.BININT1, Op.BINGET, Op.BINPUT, Op.PROTO, Op.EXT1],
  [2, Op.BININT2, Op.EXT2],
  [4, Op.BININT, Op.LONG_BINGET, Op.LONG_BINPUT, Op.EXT4],
  [8, Op.BINFLOAT, Op.FRAME],
  [COUNTED_BY_1, Op.LONG1, Op.SHORT_BINSTRING, Op.SHORT_BINUNICODE, Op.SHORT_BINBYTES],
  [COUNTED_BY_4, Op.LONG4, Op.BINSTRING, Op.BINUNICODE, Op.BINBYTES],
  [COUNTED_BY_8, Op.BINUNICODE8, Op.BINBYTES8, Op.BYTEARRAY8],
  [ONE_LINE, Op.INT, Op.LONG, Op.FLOAT, Op.STRING, Op.UNICODE, Op.GET, Op.PUT],
  [TWO_LINES, Op.GLOBAL, Op.INST],
];
for (const [form, ...codes] of FORMS) for (const code of codes) ARGUMENT[code] = form;

/** Whether `code` is one of {@linkcode Op}. */
export function isListedOpcode(code: number): boolean {
  return ARGUMENT[code] !== NOT_LISTED;
}

/** The number of bytes of the length prefix in the argument of `code`. */
export function countBytes(code: number): number {
  const argument = ARGUMENT[code]!;
  return argument < 0 && argument >= COUNTED_BY_8 ? -argument : 0;
}

/**
 * The position after the listed opcode at `at` and its argument. If `bytes` do not hold the whole argument, some
 * position beyond their end.
 */
export function opcodeEnd(bytes: Uint8Array, at: number): number {
  const argument = ARGUMENT[bytes[at]!]!;
  if (argument >= 0) return at + 1 + argument;
  switch (argument) {
    case COUNTED_BY_1:
      return at + 2 + (bytes[at + 1] ?? 0);
    case COUNTED_BY_4:
      return at + 5 + readU32(bytes, at + 1);
    case COUNTED_BY_8:
      return at + 9 + readU32(bytes, at + 1) + readU32(bytes, at + 5) * 2 ** 32;
    case ONE_LINE:
      return lineEnd(bytes, at + 1);
    default:
      return lineEnd(bytes, lineEnd(bytes, at + 1));
  }
}

/** The little-endian u32 at `at`; bytes beyond the end of `bytes` count as 0. */
export function readU32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | bytes[at + 1]! << 8 | bytes[at + 2]! << 16 | bytes[at + 3]! << 24) >>> 0;
}

/** The position after the next newline, or beyond the end without a newline. */
export function lineEnd(bytes: Uint8Array, at: number): number {
  const newline = bytes.indexOf(0x0a, at);
  return newline < 0 ? bytes.length + 1 : newline + 1;
}
