/**
 * A pickle machine that only builds data: the listed opcodes, tags instead of globals, records instead of calls.
 *
 * Work and memory are bounded by the number of opcodes: each makes at most one object, and copies nothing but
 * what earlier opcodes put on the stack.
 */
import type { SafeTensorsError } from "../errors.ts";
import { quote } from "../format/text.ts";
import { checkpointError } from "./checkpoint_error.ts";
import { findGlobal, PickleGlobal, SET } from "./globals.ts";
import { type CheckpointLimits, checkpointLimits } from "./limits.ts";
import { isListedOpcode, lineEnd, Op, opcodeEnd, opcodeName, readU32 } from "./opcodes.ts";
import {
  describe,
  PersistentId,
  PickleCall,
  PickleDict,
  PickleFloat,
  PickleList,
  PickleTuple,
  type PickleValue,
} from "./pickle_value.ts";

/** The newest pickle protocol of Python. */
const MAX_PROTOCOL = 5;

/** The longest module and name of a GLOBAL that are worth decoding. */
const MAX_GLOBAL_BYTES = 512;

const EMPTY_TUPLE = new PickleTuple([]);

/** What a pickle held. */
export interface Unpickled {
  /** The value. */
  readonly value: PickleValue;
  /** Every persistent id, in the order of the pickle, also those of values that are not kept. */
  readonly persistentIds: readonly PersistentId[];
  /** The position after its STOP. */
  readonly end: number;
}

/**
 * Reads the pickle at `start` of `bytes`.
 *
 * @param path the file, for messages
 * @throws {SafeTensorsError} "InvalidPickle", with the opcode and its offset in `bytes`, or with the global;
 * "UnsupportedCheckpoint" for a global that means something no safetensors file can hold
 */
export function unpickle(
  bytes: Uint8Array,
  path: string,
  limits: CheckpointLimits = {},
  start = 0,
): Unpickled {
  return new Unpickler(bytes, path, checkpointLimits(limits), start).run();
}

class Unpickler {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #path: string;
  readonly #limits: Required<CheckpointLimits>;
  // Fatal, since a name that is not text cannot be kept; a byte order mark is a character like any other.
  readonly #utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  readonly #stack: PickleValue[] = [];
  /** Heights of the stack at which marks stand. */
  readonly #marks: number[] = [];
  readonly #memo: PickleValue[] = [];
  #memoized = 0;
  readonly #persistentIds: PersistentId[] = [];
  /** The opcode at work, for messages. */
  #at: number;

  constructor(bytes: Uint8Array, path: string, limits: Required<CheckpointLimits>, start: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#path = path;
    this.#limits = limits;
    this.#at = start;
  }

  run(): Unpickled {
    const bytes = this.#bytes;
    for (let opcodes = 0; this.#at < bytes.length; opcodes++) {
      const code = bytes[this.#at]!;
      if (!isListedOpcode(code)) throw this.#refused("is not one that a checkpoint of tensors needs");
      if (opcodes >= this.#limits.maxOpcodes) {
        throw this.#refused(`is one too many: ${this.#limits.maxOpcodes} are allowed (maxOpcodes)`);
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
    const value = this.#pop();
    if (this.#stack.length > 0 || this.#marks.length > 0) throw this.#refused("leaves values on the stack");
    return { value, persistentIds: this.#persistentIds, end };
  }

  /** Executes the opcode `code`, whose argument is the bytes from `from` to `end`. */
  #step(code: number, from: number, end: number): void {
    switch (code) {
      case Op.BINGET:
        return this.#push(this.#remembered(this.#bytes[from]!));
      case Op.LONG_BINGET:
        return this.#push(this.#remembered(readU32(this.#bytes, from)));
      case Op.BINPUT:
        return this.#remember(this.#bytes[from]!);
      case Op.LONG_BINPUT:
        return this.#remember(readU32(this.#bytes, from));
      case Op.MEMOIZE:
        return this.#remember(this.#memoized);
      case Op.BININT1:
        return this.#push(this.#bytes[from]!);
      case Op.BININT2:
        return this.#push(this.#view.getUint16(from, true));
      case Op.BININT:
        return this.#push(this.#view.getInt32(from, true));
      case Op.LONG1:
        return this.#push(this.#long(from + 1, end));
      case Op.BINFLOAT:
        return this.#push(new PickleFloat(this.#view.getFloat64(from)));
      case Op.BINUNICODE:
        return this.#push(this.#text(from + 4, end));
      case Op.SHORT_BINUNICODE:
      case Op.SHORT_BINSTRING:
        return this.#push(this.#text(from + 1, end));
      case Op.NONE:
        return this.#push(null);
      case Op.NEWTRUE:
        return this.#push(true);
      case Op.NEWFALSE:
        return this.#push(false);
      case Op.MARK:
        return this.#mark();
      case Op.EMPTY_TUPLE:
        return this.#push(EMPTY_TUPLE);
      case Op.TUPLE1:
        return this.#push(new PickleTuple([this.#pop()]));
      case Op.TUPLE2:
        return this.#push(this.#shortTuple(2));
      case Op.TUPLE3:
        return this.#push(this.#shortTuple(3));
      case Op.TUPLE:
        return this.#push(new PickleTuple(this.#popToMark()));
      case Op.EMPTY_LIST:
        return this.#push(new PickleList());
      case Op.APPEND:
        return this.#append([this.#pop()]);
      case Op.APPENDS:
        return this.#append(this.#popToMark());
      case Op.EMPTY_DICT:
        return this.#push(new PickleDict("dict"));
      case Op.SETITEM:
        return this.#setItems(this.#shortTuple(2).items);
      case Op.SETITEMS:
        return this.#setItems(this.#popToMark());
      case Op.EMPTY_SET:
        return this.#push(new PickleCall(SET, []));
      case Op.GLOBAL:
        return this.#push(this.#readGlobal(from, end));
      case Op.STACK_GLOBAL:
        return this.#push(this.#stackGlobal());
      case Op.REDUCE:
      case Op.NEWOBJ:
        return this.#push(this.#call());
      case Op.BUILD:
        return this.#build(this.#pop());
      case Op.BINPERSID:
        return this.#push(this.#persistent(this.#pop()));
      case Op.PROTO:
        if (this.#bytes[from]! <= MAX_PROTOCOL) return;
        throw this.#refused(`asks for protocol ${this.#bytes[from]}: at most ${MAX_PROTOCOL} expected`);
      case Op.FRAME:
        return; // How long a frame is helps a reader of streams; it changes nothing.
      default:
        throw this.#refused("has no meaning here");
    }
  }

  // Stack and memo

  #push(value: PickleValue): void {
    this.#stack.push(value);
  }

  /** The height below which values belong to what came before the last mark. */
  get #floor(): number {
    return this.#marks.at(-1) ?? 0;
  }

  #top(): PickleValue {
    if (this.#stack.length <= this.#floor) throw this.#refused("finds the stack empty");
    return this.#stack.at(-1)!;
  }

  #pop(): PickleValue {
    const top = this.#top();
    this.#stack.pop();
    return top;
  }

  #mark(): void {
    if (this.#marks.length >= this.#limits.maxNesting) {
      throw this.#refused(`nests too deep: ${this.#limits.maxNesting} levels are allowed (maxNesting)`);
    }
    this.#marks.push(this.#stack.length);
  }

  #popToMark(): PickleValue[] {
    const mark = this.#marks.pop();
    if (mark === undefined) throw this.#refused("finds no MARK");
    return this.#stack.splice(mark);
  }

  #remember(index: number): void {
    const value = this.#top();
    // No pickle needs an index that its opcodes could not have counted up to.
    if (index >= this.#limits.maxOpcodes) {
      throw this.#refused(`puts to ${index}, beyond the largest memo allowed`);
    }
    if (this.#memo[index] === undefined) this.#memoized++;
    this.#memo[index] = value;
  }

  #remembered(index: number): PickleValue {
    const value = this.#memo[index];
    if (value === undefined) throw this.#refused(`asks for memo ${index}, which was never put`);
    return value;
  }

  // Values

  #shortTuple(length: 2 | 3): PickleTuple {
    if (this.#stack.length - this.#floor < length) throw this.#refused("finds too few values on the stack");
    return new PickleTuple(this.#stack.splice(-length));
  }

  #text(from: number, end: number): string {
    if (end - from > this.#limits.maxStringBytes) {
      throw this.#refused(
        `holds a string of ${end - from} bytes: ${this.#limits.maxStringBytes} are allowed (maxStringBytes)`,
      );
    }
    try {
      return this.#utf8.decode(this.#bytes.subarray(from, end));
    } catch {
      throw this.#refused("holds a string that is not UTF-8");
    }
  }

  /** A two's complement integer of up to 255 bytes, least significant first. */
  #long(from: number, end: number): number | bigint {
    let value = 0n;
    for (let i = end - 1; i >= from; i--) value = value << 8n | BigInt(this.#bytes[i]!);
    value = BigInt.asIntN((end - from) * 8, value);
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }

  #append(items: readonly PickleValue[]): void {
    const list = this.#top();
    if (!(list instanceof PickleList)) throw this.#refused(`adds to ${describe(list)}: a list expected`);
    for (const item of items) list.items.push(item);
  }

  #setItems(items: readonly PickleValue[]): void {
    const dict = this.#top();
    if (!(dict instanceof PickleDict)) {
      throw this.#refused(`sets items of ${describe(dict)}: a dict expected`);
    }
    if (items.length % 2 !== 0) throw this.#refused("finds a key without a value");
    for (const item of items) dict.entries.push(item);
  }

  // Globals and what is made of them

  #readGlobal(from: number, end: number): PickleGlobal {
    if (end - from > MAX_GLOBAL_BYTES) throw this.#refused(`names a global of ${end - from} bytes`);
    const line = lineEnd(this.#bytes, from);
    return this.#global(this.#text(from, line - 1), this.#text(line, end - 1));
  }

  #stackGlobal(): PickleGlobal {
    const [module, name] = this.#shortTuple(2).items;
    if (typeof module !== "string" || typeof name !== "string") {
      throw this.#refused("names a global with something other than two strings");
    }
    return this.#global(module, name);
  }

  #global(module: string, name: string): PickleGlobal {
    const found = findGlobal(module, name);
    const named = `${quote(`${module}.${name}`)} at offset ${this.#at}`;
    if (found === undefined) {
      throw this.#error(
        `global ${named} is not one that a checkpoint of tensors needs; it is not looked up, and nothing is run. ` +
          `Where the file holds a whole model, save its state_dict() instead`,
      );
    }
    if (found.role === "unsupported") {
      throw checkpointError(
        "UnsupportedCheckpoint",
        this.#path,
        `it holds ${found.what} (global ${named}), which no safetensors file can hold`,
      );
    }
    return found;
  }

  /** Records a call, or the making of an object, where the callee is something that can be called. */
  #call(): PickleValue {
    const [callee, args] = this.#shortTuple(2).items as [PickleValue, PickleValue];
    if (!(args instanceof PickleTuple)) throw this.#refused(`is given ${describe(args)}: a tuple expected`);
    if (callee instanceof PickleGlobal) {
      switch (callee.role) {
        case "dict":
          return new PickleDict(callee.path, args.items[0]);
        case "tensor":
        case "wrapper":
        case "value":
          return new PickleCall(callee, args.items);
      }
    }
    throw this.#refused(`calls ${describe(callee)}, which is not for calling`);
  }

  #build(state: PickleValue): void {
    const target = this.#top();
    // What Python would keep as attributes of a dict, such as `_metadata`, is not part of its content.
    if (target instanceof PickleDict) return;
    if (!(target instanceof PickleCall)) throw this.#refused(`gives a state to ${describe(target)}`);
    target.state = state;
  }

  #persistent(id: PickleValue): PersistentId {
    const persistent = new PersistentId(id);
    this.#persistentIds.push(persistent);
    return persistent;
  }

  // Errors

  #refused(detail: string): SafeTensorsError {
    return this.#error(`opcode ${opcodeName(this.#bytes[this.#at]!)} at offset ${this.#at} ${detail}`);
  }

  #error(detail: string): SafeTensorsError {
    return checkpointError("InvalidPickle", this.#path, detail);
  }
}
