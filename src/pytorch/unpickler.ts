/**
 * An unpickler that only builds data: names instead of functions and classes, records instead of calls.
 *
 * The number of opcodes bounds work and memory: each opcode makes at most one object, and copies only data that
 * earlier opcodes put on the stack.
 */
import type { SafeTensorsError } from "../base/errors.ts";
import { Turn } from "../base/turn.ts";
import { checkpointError, type CheckpointLimits, checkpointLimits, limitError } from "./errors.ts";
import {
  countBytes,
  isListedOpcode,
  lineEnd,
  Op,
  opcodeEnd,
  opcodeName,
  readU32,
  refusalOf,
} from "./opcodes.ts";
import {
  COMPUTED,
  describe,
  findGlobal,
  PersistentId,
  PickleBytes,
  PickleCall,
  PickleDict,
  PickleFloat,
  PickleGlobal,
  PickleList,
  PickleOther,
  PickleSet,
  PickleTuple,
  type PickleValue,
} from "./pickle_value.ts";

/* ---- The memory of the unpickler: its stack with marks, and its memo ---- */

/** Makes the error about the present opcode, or about the `limit` that it exceeds. */
type Refuse = (detail: string, limit?: keyof CheckpointLimits) => Error;

/** A stack of values with marks; values below the last mark cannot be reached. */
class PickleStack {
  readonly #maxMarks: number;
  readonly #refuse: Refuse;
  readonly #values: PickleValue[] = [];
  /** The heights of the marks. */
  readonly #marks: number[] = [];

  /** Makes an empty stack; `limits.maxNesting` bounds its marks. */
  constructor(limits: Required<CheckpointLimits>, refuse: Refuse) {
    this.#maxMarks = limits.maxNesting;
    this.#refuse = refuse;
  }

  /** Whether neither values nor marks are left. */
  get isEmpty(): boolean {
    return this.#values.length === 0 && this.#marks.length === 0;
  }

  /** Puts a value on top. */
  push(value: PickleValue): void {
    this.#values.push(value);
  }

  /** The value on top, without removing it. */
  top(): PickleValue {
    if (this.#values.length <= this.#floor) throw this.#refuse("finds the stack empty");
    return this.#values.at(-1)!;
  }

  /** Removes and returns the value on top. */
  pop(): PickleValue {
    const top = this.top();
    this.#values.pop();
    return top;
  }

  /** Removes the value on top, or the last mark if no value is above it. */
  drop(): void {
    if (this.#values.length === this.#marks.at(-1)) this.#marks.pop();
    else this.pop();
  }

  /** Pops `count` values and returns them in the order in which they were pushed. */
  popLast(count: number): PickleValue[] {
    const from = this.#values.length - count;
    if (from < this.#floor) throw this.#refuse("finds too few values on the stack");
    return this.#take(from);
  }

  /** Sets a mark on top. */
  mark(): void {
    if (this.#marks.length >= this.#maxMarks) {
      throw this.#refuse(`nests too deep: ${this.#maxMarks} levels are allowed`, "maxNesting");
    }
    this.#marks.push(this.#values.length);
  }

  /** Pops the last mark and the values above it, and returns these in the order in which they were pushed. */
  popToMark(): PickleValue[] {
    const mark = this.#marks.pop();
    if (mark === undefined) throw this.#refuse("finds no MARK");
    return this.#take(mark);
  }

  get #floor(): number {
    return this.#marks.at(-1) ?? 0;
  }

  #take(from: number): PickleValue[] {
    const values = this.#values.slice(from);
    this.#values.length = from;
    return values;
  }
}

/** Values by index. */
class PickleMemo {
  readonly #maxIndex: number;
  readonly #refuse: Refuse;
  readonly #values: PickleValue[] = [];
  #size = 0;

  /** Makes an empty memo; `limits.maxOpcodes` bounds its indices. */
  constructor(limits: Required<CheckpointLimits>, refuse: Refuse) {
    // A pickle cannot need a larger index than its number of opcodes.
    this.#maxIndex = limits.maxOpcodes;
    this.#refuse = refuse;
  }

  /** The number of values, which is the next index of MEMOIZE. */
  get size(): number {
    return this.#size;
  }

  /** Stores `value` under `index`. */
  put(index: number, value: PickleValue): void {
    if (index >= this.#maxIndex) {
      throw this.#refuse(`puts to ${index}, beyond the largest memo allowed`, "maxOpcodes");
    }
    if (this.#values[index] === undefined) this.#size++;
    this.#values[index] = value;
  }

  /** The value under `index`. */
  get(index: number): PickleValue {
    const value = this.#values[index];
    if (value === undefined) throw this.#refuse(`asks for memo ${index}, which was never put`);
    return value;
  }
}

/* ---- Arguments of opcodes that are text: numbers and strings as lines, and strings in UTF-8 ---- */

// Fatal, because a name must be valid text; a byte order mark is an ordinary character.
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const LATIN1_CHUNK = 4096;

/** Longer ints are only described: parsing takes time that grows with the square of the length. */
const MAX_INT_DIGITS = 640;
const MAX_INT_BYTES = 256;

/**
 * The text of UTF-8 bytes; undefined for invalid UTF-8. Python also writes lone surrogates, as three bytes each.
 */
function decodeText(bytes: Uint8Array): string | undefined {
  try {
    return UTF8.decode(bytes);
  } catch {
    return decodeSurrogates(bytes);
  }
}

/** A str of Python 2, which is bytes: text if it is UTF-8. */
function decodeString(bytes: Uint8Array): PickleValue {
  return decodeText(bytes) ?? new PickleBytes("bytes", bytes);
}

/** Decodes UTF-8 as Python's "surrogatepass" does. */
function decodeSurrogates(bytes: Uint8Array): string | undefined {
  let text = "";
  let from = 0;
  const take = (end: number) => {
    text += UTF8.decode(bytes.subarray(from, end));
  };
  try {
    for (let at = 0; at + 2 < bytes.length; at++) {
      const [a, b, c] = [bytes[at]!, bytes[at + 1]!, bytes[at + 2]!];
      // U+D800 to U+DFFF: 11101101 101xxxxx 10xxxxxx
      if (a !== 0xed || (b & 0xe0) !== 0xa0 || (c & 0xc0) !== 0x80) continue;
      take(at);
      text += String.fromCharCode(0xd000 | (b & 0x3f) << 6 | (c & 0x3f));
      from = at + 3;
      at += 2;
    }
    take(bytes.length);
  } catch {
    return undefined;
  }
  return text;
}

/** A two's complement integer, least significant byte first. */
function readLong(bytes: Uint8Array): PickleValue {
  if (bytes.length > MAX_INT_BYTES) return new PickleOther(`int of ${bytes.length} bytes`);
  const hex = bytes.slice().reverse().toHex();
  return smallest(BigInt.asIntN(hex.length * 4, BigInt(`0x0${hex}`)));
}

/** A line of INT, which may be a bool, or of LONG; undefined if it is not a number. */
function parseInteger(line: Uint8Array): PickleValue | undefined {
  const text = latin1(line).trim().replace(/L$/, "");
  if (text === "00") return false;
  if (text === "01") return true;
  if (!/^[+-]?\d+$/.test(text)) return undefined;
  return text.length > MAX_INT_DIGITS
    ? new PickleOther(`int of ${text.length} digits`)
    : smallest(BigInt(text.replace(/^\+/, "")));
}

/** A line of FLOAT; undefined if it is not a number. */
function parseFloatLine(line: Uint8Array): PickleFloat | undefined {
  const text = latin1(line).trim().toLowerCase();
  if (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/.test(text)) return new PickleFloat(Number(text));
  const [, sign, word] = /^([+-]?)(inf|nan)$/.exec(text) ?? [];
  if (word === undefined) return undefined;
  return new PickleFloat(word === "nan" ? NaN : sign === "-" ? -Infinity : Infinity);
}

const ESCAPES: ReadonlyMap<string, number> = new Map([
  ["\\", 92],
  ["'", 39],
  ['"', 34],
  ["a", 7],
  ["b", 8],
  ["f", 12],
  ["n", 10],
  ["r", 13],
  ["t", 9],
  ["v", 11],
]);

/** The parts of a literal: runs of characters, and escapes by number or by letter. */
const LITERAL = /[^\\]+|\\x([0-9a-fA-F]{2})|\\([0-7]{1,3})|\\([^]|$)/g;

/** A line of STRING: a literal of Python 2 in quotes; undefined if it is not one. */
function parseString(line: Uint8Array): PickleValue | undefined {
  const text = latin1(line).trim();
  const quoted = /^(['"])([^]*)\1$/.exec(text)?.[2];
  if (quoted === undefined) return undefined;
  const bytes = new Uint8Array(quoted.length);
  let length = 0;
  for (const [run, hex, octal, letter] of quoted.matchAll(LITERAL)) {
    if (hex !== undefined) bytes[length++] = parseInt(hex, 16);
    else if (octal !== undefined) bytes[length++] = parseInt(octal, 8);
    else if (letter === undefined) {
      for (let i = 0; i < run.length; i++) bytes[length++] = run.charCodeAt(i);
    } else {
      const code = ESCAPES.get(letter);
      if (code === undefined) bytes[length++] = 92; // an unknown escape in Python is two characters
      if (letter !== "") bytes[length++] = code ?? letter.charCodeAt(0);
    }
  }
  return decodeString(bytes.subarray(0, length));
}

/** A line of UNICODE: Latin-1 with \\u escapes. */
function parseUnicode(line: Uint8Array): string | undefined {
  try {
    return latin1(line).replace(/\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})/g, (_, short, long) => {
      return String.fromCodePoint(parseInt(short ?? long, 16));
    });
  } catch {
    return undefined; // beyond U+10FFFF
  }
}

function latin1(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += LATIN1_CHUNK) {
    text += String.fromCharCode(...bytes.subarray(at, at + LATIN1_CHUNK));
  }
  return text;
}

function smallest(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** The newest pickle protocol of Python. */
const MAX_PROTOCOL = 5;

/** The longest module and name of a GLOBAL. */
const MAX_GLOBAL_BYTES = 512;

/** The longest bytes that are decoded from a str of protocol 2; of longer ones only the type is stored. */
const MAX_ENCODED = 1024;

/** The event loop gets a turn after this many opcodes. */
const TURN_STEPS = 4096;

const EMPTY_TUPLE = new PickleTuple([]);

/** The contents of a pickle. */
export interface Unpickled {
  /** The value. */
  readonly value: PickleValue;
  /** Every persistent id, in the order of the pickle, also those of discarded values. */
  readonly persistentIds: readonly PersistentId[];
  /** The position after its STOP. */
  readonly end: number;
}

/**
 * Reads the pickle at `start` of `bytes`.
 *
 * @param path the file, for messages
 * @throws {SafeTensorsError} "InvalidPickle", with the opcode and its offset in `bytes`; "LimitExceeded"
 */
export async function unpickle(
  bytes: Uint8Array,
  path: string,
  limits: CheckpointLimits = {},
  start = 0,
): Promise<Unpickled> {
  return await new Unpickler(bytes, path, checkpointLimits(limits), start).run();
}

class Unpickler {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #path: string;
  readonly #limits: Required<CheckpointLimits>;
  readonly #stack: PickleStack;
  readonly #memo: PickleMemo;
  readonly #persistentIds: PersistentId[] = [];
  /** The position of the present opcode, for messages. */
  #at: number;

  constructor(bytes: Uint8Array, path: string, limits: Required<CheckpointLimits>, start: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#path = path;
    this.#limits = limits;
    this.#at = start;
    const refuse: Refuse = (detail, limit) => this.#refused(detail, limit);
    this.#stack = new PickleStack(limits, refuse);
    this.#memo = new PickleMemo(limits, refuse);
  }

  async run(): Promise<Unpickled> {
    const bytes = this.#bytes;
    const turn = new Turn();
    for (let opcodes = 0; this.#at < bytes.length; opcodes++) {
      if (opcodes % TURN_STEPS === TURN_STEPS - 1) await turn.pause();
      const code = bytes[this.#at]!;
      if (!isListedOpcode(code)) throw this.#refused(refusalOf(code));
      if (opcodes >= this.#limits.maxOpcodes) {
        throw this.#refused(`is one too many: ${this.#limits.maxOpcodes} are allowed`, "maxOpcodes");
      }
      const end = opcodeEnd(bytes, this.#at);
      if (end > bytes.length) break;
      if (code === Op.STOP) return this.#stop(end);
      this.#step(code, this.#at + 1, end);
      this.#at = end;
    }
    throw this.#error(`the pickle ends at offset ${bytes.length}, before its STOP`);
  }

  #stop(end: number): Unpickled {
    const value = this.#stack.pop();
    if (!this.#stack.isEmpty) throw this.#refused("leaves values on the stack");
    return { value, persistentIds: this.#persistentIds, end };
  }

  /** Executes the opcode `code`, whose argument is the bytes from `from` to `end`. */
  #step(code: number, from: number, end: number): void {
    const stack = this.#stack;
    const memo = this.#memo;
    switch (code) {
      case Op.BINGET:
        return stack.push(memo.get(this.#bytes[from]!));
      case Op.LONG_BINGET:
        return stack.push(memo.get(readU32(this.#bytes, from)));
      case Op.GET:
        return stack.push(memo.get(this.#index(from, end)));
      case Op.BINPUT:
        return memo.put(this.#bytes[from]!, stack.top());
      case Op.LONG_BINPUT:
        return memo.put(readU32(this.#bytes, from), stack.top());
      case Op.PUT:
        return memo.put(this.#index(from, end), stack.top());
      case Op.MEMOIZE:
        return memo.put(memo.size, stack.top());
      case Op.BININT1:
        return stack.push(this.#bytes[from]!);
      case Op.BININT2:
        return stack.push(this.#view.getUint16(from, true));
      case Op.BININT:
        return stack.push(this.#view.getInt32(from, true));
      case Op.LONG1:
      case Op.LONG4:
        return stack.push(readLong(this.#argument(code, from, end)));
      case Op.INT:
      case Op.LONG:
        return stack.push(this.#parsed(parseInteger, "a number", from, end));
      case Op.BINFLOAT:
        return stack.push(new PickleFloat(this.#view.getFloat64(from)));
      case Op.FLOAT:
        return stack.push(this.#parsed(parseFloatLine, "a number", from, end));
      case Op.BINUNICODE:
      case Op.SHORT_BINUNICODE:
      case Op.BINUNICODE8:
        return stack.push(this.#text(this.#argument(code, from, end)));
      case Op.UNICODE:
        return stack.push(this.#parsed(parseUnicode, "text", from, end));
      case Op.SHORT_BINSTRING:
      case Op.BINSTRING:
        return stack.push(decodeString(this.#argument(code, from, end)));
      case Op.STRING:
        return stack.push(this.#parsed(parseString, "text in quotes", from, end));
      case Op.SHORT_BINBYTES:
      case Op.BINBYTES:
      case Op.BINBYTES8:
        return stack.push(new PickleBytes("bytes", this.#argument(code, from, end)));
      case Op.BYTEARRAY8:
        return stack.push(new PickleBytes("bytearray", this.#argument(code, from, end)));
      case Op.NONE:
        return stack.push(null);
      case Op.NEWTRUE:
        return stack.push(true);
      case Op.NEWFALSE:
        return stack.push(false);
      case Op.MARK:
        return stack.mark();
      case Op.POP:
        return stack.drop();
      case Op.POP_MARK:
        return void stack.popToMark();
      case Op.DUP:
        return stack.push(stack.top());
      case Op.EMPTY_TUPLE:
        return stack.push(EMPTY_TUPLE);
      case Op.TUPLE1:
        return stack.push(new PickleTuple([stack.pop()]));
      case Op.TUPLE2:
        return stack.push(new PickleTuple(stack.popLast(2)));
      case Op.TUPLE3:
        return stack.push(new PickleTuple(stack.popLast(3)));
      case Op.TUPLE:
        return stack.push(new PickleTuple(stack.popToMark()));
      case Op.EMPTY_LIST:
        return stack.push(new PickleList());
      case Op.LIST:
        return stack.push(new PickleList(stack.popToMark()));
      case Op.APPEND:
        return this.#append([stack.pop()]);
      case Op.APPENDS:
        return this.#append(stack.popToMark());
      case Op.EMPTY_SET:
        return stack.push(new PickleSet("set"));
      case Op.FROZENSET:
        return stack.push(new PickleSet("frozenset", stack.popToMark()));
      case Op.ADDITEMS:
        return this.#addItems(stack.popToMark());
      case Op.EMPTY_DICT:
        return stack.push(new PickleDict("dict"));
      case Op.DICT:
        return stack.push(new PickleDict("dict", null, this.#pairs(stack.popToMark())));
      case Op.SETITEM:
        return this.#setItems(stack.popLast(2));
      case Op.SETITEMS:
        return this.#setItems(this.#pairs(stack.popToMark()));
      case Op.GLOBAL:
        return stack.push(this.#readGlobal(from, end));
      case Op.STACK_GLOBAL:
        return stack.push(this.#stackGlobal());
      case Op.EXT1:
      case Op.EXT2:
      case Op.EXT4:
        // The number of a class in a registry of the program that wrote the pickle.
        return stack.push(new PickleOther("value of a registered extension"));
      case Op.REDUCE:
      case Op.NEWOBJ:
        return stack.push(this.#call(stack.popLast(2)));
      case Op.NEWOBJ_EX:
        return stack.push(this.#call(stack.popLast(3)));
      case Op.INST:
        return stack.push(this.#make(this.#readGlobal(from, end), stack.popToMark()));
      case Op.OBJ: {
        const [callee = null, ...args] = stack.popToMark();
        return stack.push(this.#make(callee, args));
      }
      case Op.BUILD:
        return this.#build(stack.pop());
      case Op.BINPERSID:
        return stack.push(this.#persistent(stack.pop()));
      case Op.PROTO:
        if (this.#bytes[from]! <= MAX_PROTOCOL) return;
        throw this.#refused(`asks for protocol ${this.#bytes[from]}: at most ${MAX_PROTOCOL} expected`);
      case Op.FRAME:
        return; // The length of a frame only helps readers of streams.
      default:
        throw this.#refused("has no meaning here");
    }
  }

  // Arguments

  /** The argument of `code` without its length prefix. */
  #argument(code: number, from: number, end: number): Uint8Array {
    return this.#bounded(this.#bytes.subarray(from + countBytes(code), end));
  }

  #bounded(bytes: Uint8Array): Uint8Array {
    const { maxStringBytes } = this.#limits;
    if (bytes.length <= maxStringBytes) return bytes;
    const detail = `holds a string of ${bytes.length} bytes: ${maxStringBytes} are allowed`;
    throw this.#refused(detail, "maxStringBytes");
  }

  #text(bytes: Uint8Array): string {
    const text = decodeText(this.#bounded(bytes));
    if (text === undefined) throw this.#refused("holds a string that is not UTF-8");
    return text;
  }

  /** Parses a line. */
  #parsed<T extends PickleValue>(
    parse: (line: Uint8Array) => T | undefined,
    what: string,
    from: number,
    end: number,
  ): T {
    const value = parse(this.#bounded(this.#bytes.subarray(from, end - 1)));
    if (value === undefined) throw this.#refused(`holds a line that is not ${what}`);
    return value;
  }

  /** The line of GET or PUT. */
  #index(from: number, end: number): number {
    const index = this.#parsed(parseInteger, "a number", from, end);
    if (typeof index === "number" && index >= 0) return index;
    throw this.#refused(`has ${describe(index)} as an index of the memo`);
  }

  // Containers

  #append(items: readonly PickleValue[]): void {
    const list = this.#stack.top();
    if (list instanceof PickleList) { for (const item of items) list.items.push(item); }
    else if (isInert(list)) { for (const item of items) (list.items ??= []).push(item); }
    else throw this.#refused(`adds to ${describe(list)}: a list expected`);
  }

  #addItems(items: readonly PickleValue[]): void {
    const set = this.#stack.top();
    if (set instanceof PickleSet) { for (const item of items) set.items.push(item); }
    else if (isInert(set)) { for (const item of items) (set.items ??= []).push(item); }
    else throw this.#refused(`adds to ${describe(set)}: a set expected`);
  }

  #pairs(items: PickleValue[]): PickleValue[] {
    if (items.length % 2 !== 0) throw this.#refused("finds a key without a value");
    return items;
  }

  #setItems(items: readonly PickleValue[]): void {
    const dict = this.#stack.top();
    if (dict instanceof PickleDict) { for (const item of items) dict.entries.push(item); }
    else if (isInert(dict)) { for (const item of items) (dict.entries ??= []).push(item); }
    else throw this.#refused(`sets items of ${describe(dict)}: a dict expected`);
  }

  // Globals and objects

  #readGlobal(from: number, end: number): PickleGlobal {
    if (end - from > MAX_GLOBAL_BYTES) throw this.#refused(`names a global of ${end - from} bytes`);
    const line = lineEnd(this.#bytes, from);
    const [module, name] = [this.#bytes.subarray(from, line - 1), this.#bytes.subarray(line, end - 1)];
    return findGlobal(this.#text(module), this.#text(name));
  }

  #stackGlobal(): PickleGlobal {
    const [module, name] = this.#stack.popLast(2);
    if (typeof module !== "string" || typeof name !== "string") {
      throw this.#refused("names a global with something other than two strings");
    }
    const length = module.length + name.length;
    if (length > MAX_GLOBAL_BYTES) throw this.#refused(`names a global of ${length} characters`);
    return findGlobal(module, name);
  }

  #call([callee = null, args = null, keywords]: readonly PickleValue[]): PickleValue {
    if (!(args instanceof PickleTuple)) throw this.#refused(`is given ${describe(args)}: a tuple expected`);
    const made = this.#make(callee, args.items);
    if (keywords !== undefined && made instanceof PickleCall) made.keywords = keywords;
    return made;
  }

  /** Records a call, or a new object, if the callee can be called. */
  #make(callee: PickleValue, args: readonly PickleValue[]): PickleValue {
    if (callee instanceof PickleCall || callee instanceof PickleOther) return new PickleCall(COMPUTED, args);
    if (!(callee instanceof PickleGlobal)) {
      throw this.#refused(`calls ${describe(callee)}, which cannot be called`);
    }
    const [first] = args;
    switch (callee.path) {
      case "copyreg._reconstructor":
      case "copyreg.__newobj__": {
        // Protocols 0 and 1 make an object of a class this way. The class is the first argument; the contents are
        // the third, if the class derives from dict.
        const type = first instanceof PickleGlobal ? first : COMPUTED;
        const content = args[2];
        if (content instanceof PickleDict && content.initial === null) {
          return new PickleDict(type.path, content);
        }
        return new PickleCall(type, args);
      }
      case "_codecs.encode":
        // Protocols 0 to 2 make bytes from a str in Latin-1.
        if (typeof first !== "string" || first.length > MAX_ENCODED) break;
        return new PickleBytes("bytes", Uint8Array.from(first, (character) => character.charCodeAt(0)));
    }
    return (callee.role === "dict" && makeDict(callee, args)) || new PickleCall(callee, args);
  }

  #build(state: PickleValue): void {
    const target = this.#stack.top();
    // Attributes of a dict, such as `_metadata`, are not part of its contents.
    if (target instanceof PickleDict || target instanceof PickleOther) return;
    if (!(target instanceof PickleCall)) throw this.#refused(`gives a state to ${describe(target)}`);
    target.state = state;
  }

  #persistent(id: PickleValue): PickleValue {
    const [tag, named] = id instanceof PickleTuple ? id.items : [];
    // PyTorch before 1.6 stores the source text of a module's class with its name.
    if (tag === "module" && named instanceof PickleGlobal) return named;
    const persistent = new PersistentId(id, this.#persistentIds.length);
    this.#persistentIds.push(persistent);
    return persistent;
  }

  // Errors

  #refused(detail: string, limit?: keyof CheckpointLimits): SafeTensorsError {
    const whole = `opcode ${opcodeName(this.#bytes[this.#at]!)} at offset ${this.#at} ${detail}`;
    return limit === undefined ? this.#error(whole) : limitError(this.#path, whole, limit);
  }

  #error(detail: string): SafeTensorsError {
    return checkpointError("InvalidPickle", this.#path, detail);
  }
}

/** Whether a value may be a list, a set or a dict of an unknown class. */
function isInert(value: PickleValue): value is PickleCall {
  return value instanceof PickleCall && (value.callee.role === "inert" || value.callee.role === "dict");
}

/** A dict made from no arguments, a list of pairs, or a plain dict; undefined for other arguments. */
function makeDict(callee: PickleGlobal, args: readonly PickleValue[]): PickleDict | undefined {
  // The first argument of a defaultdict makes the missing values.
  const [first, ...more] = callee.path === "collections.defaultdict" ? args.slice(1, 3) : args.slice(0, 2);
  if (first === undefined) return new PickleDict(callee.path);
  const fits = first instanceof PickleList || first instanceof PickleDict && first.initial === null;
  return fits && more.length === 0 ? new PickleDict(callee.path, first) : undefined;
}
