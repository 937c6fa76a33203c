/** The opcodes of a pickle that a checkpoint of tensors needs, and how long each one's argument is. */

/**
 * The opcodes read here: those that PyTorch's restricted unpickler takes (pickle protocol 2), and four of
 * protocol 4 that only carry data (FRAME, MEMOIZE, SHORT_BINUNICODE, STACK_GLOBAL).
 */
export const Op = {
  MARK: 0x28,
  EMPTY_TUPLE: 0x29,
  STOP: 0x2e,
  BINFLOAT: 0x47,
  BININT: 0x4a,
  BININT1: 0x4b,
  BININT2: 0x4d,
  NONE: 0x4e,
  BINPERSID: 0x51,
  REDUCE: 0x52,
  SHORT_BINSTRING: 0x55,
  BINUNICODE: 0x58,
  EMPTY_LIST: 0x5d,
  APPEND: 0x61,
  BUILD: 0x62,
  GLOBAL: 0x63,
  APPENDS: 0x65,
  BINGET: 0x68,
  LONG_BINGET: 0x6a,
  BINPUT: 0x71,
  LONG_BINPUT: 0x72,
  SETITEM: 0x73,
  TUPLE: 0x74,
  SETITEMS: 0x75,
  EMPTY_DICT: 0x7d,
  PROTO: 0x80,
  NEWOBJ: 0x81,
  TUPLE1: 0x85,
  TUPLE2: 0x86,
  TUPLE3: 0x87,
  NEWTRUE: 0x88,
  NEWFALSE: 0x89,
  LONG1: 0x8a,
  SHORT_BINUNICODE: 0x8c,
  EMPTY_SET: 0x8f,
  STACK_GLOBAL: 0x93,
  MEMOIZE: 0x94,
  FRAME: 0x95,
} as const;

/** The other opcodes of Python's pickle, for messages alone. */
const REFUSED: Readonly<Record<number, string>> = {
  0x30: "POP",
  0x31: "POP_MARK",
  0x32: "DUP",
  0x42: "BINBYTES",
  0x43: "SHORT_BINBYTES",
  0x46: "FLOAT",
  0x49: "INT",
  0x4c: "LONG",
  0x50: "PERSID",
  0x53: "STRING",
  0x54: "BINSTRING",
  0x56: "UNICODE",
  0x64: "DICT",
  0x67: "GET",
  0x69: "INST",
  0x6c: "LIST",
  0x6f: "OBJ",
  0x70: "PUT",
  0x82: "EXT1",
  0x83: "EXT2",
  0x84: "EXT4",
  0x8b: "LONG4",
  0x8d: "BINUNICODE8",
  0x8e: "BINBYTES8",
  0x90: "ADDITEMS",
  0x91: "FROZENSET",
  0x92: "NEWOBJ_EX",
  0x96: "BYTEARRAY8",
  0x97: "NEXT_BUFFER",
  0x98: "READONLY_BUFFER",
};

const NAMES: Readonly<Record<number, string>> = {
  ...REFUSED,
  ...Object.fromEntries(Object.entries(Op).map(([name, code]) => [code, name])),
};

/** An opcode for a message: its name where Python has one, and its byte. */
export function opcodeName(code: number): string {
  const hex = `0x${code.toString(16).padStart(2, "0")}`;
  return NAMES[code] === undefined ? hex : `${NAMES[code]} (${hex})`;
}

// What follows an opcode: this many bytes, or one of the three forms below.
const COUNTED_BY_1 = -1;
const COUNTED_BY_4 = -4;
const TWO_LINES = -2;
const NOT_LISTED = -128;

const ARGUMENT = new Int8Array(256).fill(NOT_LISTED);
for (const code of Object.values(Op)) ARGUMENT[code] = 0;
for (const code of [Op.BININT1, Op.BINGET, Op.BINPUT, Op.PROTO]) ARGUMENT[code] = 1;
for (const code of [Op.BININT, Op.LONG_BINGET, Op.LONG_BINPUT]) ARGUMENT[code] = 4;
for (const code of [Op.BINFLOAT, Op.FRAME]) ARGUMENT[code] = 8;
for (const code of [Op.LONG1, Op.SHORT_BINSTRING, Op.SHORT_BINUNICODE]) ARGUMENT[code] = COUNTED_BY_1;
ARGUMENT[Op.BININT2] = 2;
ARGUMENT[Op.BINUNICODE] = COUNTED_BY_4;
ARGUMENT[Op.GLOBAL] = TWO_LINES;

/** Whether `code` is one of {@linkcode Op}. */
export function isListedOpcode(code: number): boolean {
  return ARGUMENT[code] !== NOT_LISTED;
}

/**
 * The position after the listed opcode at `at` and its argument. Beyond the end of `bytes` (by how much, is
 * not said) where these do not hold all of it.
 */
export function opcodeEnd(bytes: Uint8Array, at: number): number {
  const argument = ARGUMENT[bytes[at]!]!;
  if (argument >= 0) return at + 1 + argument;
  switch (argument) {
    case COUNTED_BY_1:
      return at + 2 + (bytes[at + 1] ?? 0);
    case COUNTED_BY_4:
      return at + 5 + readU32(bytes, at + 1);
    default:
      return lineEnd(bytes, lineEnd(bytes, at + 1));
  }
}

/** The little-endian u32 at `at`; what lies beyond the end of `bytes` counts as 0. */
export function readU32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | bytes[at + 1]! << 8 | bytes[at + 2]! << 16 | bytes[at + 3]! << 24) >>> 0;
}

/** The position after the next newline, or beyond the end where there is none. */
export function lineEnd(bytes: Uint8Array, at: number): number {
  const newline = bytes.indexOf(0x0a, at);
  return newline < 0 ? bytes.length + 1 : newline + 1;
}
