/**
 * A pickle machine that only builds data: the listed opcodes, tags instead of globals, records instead of
 * calls.
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
import { PickleMemo, PickleStack } from "./pickle_stack.ts";
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
  readonly #stack: PickleStack;
  readonly #memo: PickleMemo;
  readonly #persistentIds: PersistentId[] = [];
  /** The opcode at work, for messages. */
  #at: number;

  constructor(bytes: Uint8Array, path: string, limits: Required<CheckpointLimits>, start: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#path = path;
    this.#limits = limits;
    this.#at = start;
    const refuse = (detail: string) => this.#refused(detail);
    this.#stack = new PickleStack(limits, refuse);
    this.#memo = new PickleMemo(limits, refuse);
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
      case Op.BINPUT:
        return memo.put(this.#bytes[from]!, stack.top());
      case Op.LONG_BINPUT:
        return memo.put(readU32(this.#bytes, from), stack.top());
      case Op.MEMOIZE:
        return memo.put(memo.size, stack.top());
      case Op.BININT1:
        return stack.push(this.#bytes[from]!);
      case Op.BININT2:
        return stack.push(this.#view.getUint16(from, true));
      case Op.BININT:
        return stack.push(this.#view.getInt32(from, true));
      case Op.LONG1:
        return stack.push(this.#long(from + 1, end));
      case Op.BINFLOAT:
        return stack.push(new PickleFloat(this.#view.getFloat64(from)));
      case Op.BINUNICODE:
        return stack.push(this.#text(from + 4, end));
      case Op.SHORT_BINUNICODE:
      case Op.SHORT_BINSTRING:
        return stack.push(this.#text(from + 1, end));
      case Op.NONE:
        return stack.push(null);
      case Op.NEWTRUE:
        return stack.push(true);
      case Op.NEWFALSE:
        return stack.push(false);
      case Op.MARK:
        return stack.mark();
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
      case Op.APPEND:
        return this.#append([stack.pop()]);
      case Op.APPENDS:
        return this.#append(stack.popToMark());
      case Op.EMPTY_DICT:
        return stack.push(new PickleDict("dict"));
      case Op.SETITEM:
        return this.#setItems(stack.popLast(2));
      case Op.SETITEMS:
        return this.#setItems(stack.popToMark());
      case Op.EMPTY_SET:
        return stack.push(new PickleCall(SET, []));
      case Op.GLOBAL:
        return stack.push(this.#readGlobal(from, end));
      case Op.STACK_GLOBAL:
        return stack.push(this.#stackGlobal());
      case Op.REDUCE:
      case Op.NEWOBJ:
        return stack.push(this.#call());
      case Op.BUILD:
        return this.#build(stack.pop());
      case Op.BINPERSID:
        return stack.push(this.#persistent(stack.pop()));
      case Op.PROTO:
        if (this.#bytes[from]! <= MAX_PROTOCOL) return;
        throw this.#refused(`asks for protocol ${this.#bytes[from]}: at most ${MAX_PROTOCOL} expected`);
      case Op.FRAME:
        return; // How long a frame is helps a reader of streams; it changes nothing.
      default:
        throw this.#refused("has no meaning here");
    }
  }

  // Values

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
    const hex = this.#bytes.slice(from, end).reverse().toHex();
    const value = BigInt.asIntN(hex.length * 4, BigInt(`0x0${hex}`));
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }

  #append(items: readonly PickleValue[]): void {
    const list = this.#stack.top();
    if (!(list instanceof PickleList)) throw this.#refused(`adds to ${describe(list)}: a list expected`);
    for (const item of items) list.items.push(item);
  }

  #setItems(items: readonly PickleValue[]): void {
    const dict = this.#stack.top();
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
    const [module, name] = this.#stack.popLast(2);
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
    const [callee, args] = this.#stack.popLast(2) as [PickleValue, PickleValue];
    if (!(args instanceof PickleTuple)) throw this.#refused(`is given ${describe(args)}: a tuple expected`);
    if (callee instanceof PickleGlobal) {
      switch (callee.role) {
        case "dict":
          return new PickleDict(callee.path, this.#initial(callee, args));
        case "tensor":
        case "wrapper":
        case "value":
          return new PickleCall(callee, args.items);
      }
    }
    throw this.#refused(`calls ${describe(callee)}, which is not for calling`);
  }

  /** What a dict is made of: an OrderedDict of nothing or a list of pairs, a Counter of nothing or a dict. */
  #initial(callee: PickleGlobal, { items }: PickleTuple): PickleList | PickleDict | null {
    const [first = null] = items;
    const counter = callee.path === "collections.Counter";
    if (items.length === 0) return null;
    if (items.length === 1 && first instanceof (counter ? PickleDict : PickleList)) return first;
    throw this.#refused(`makes ${callee.path} of ${describe(first)}`);
  }

  #build(state: PickleValue): void {
    const target = this.#stack.top();
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
