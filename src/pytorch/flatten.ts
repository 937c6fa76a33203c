/** Finds the named tensors of a saved object, and lists its other values. */
import { quote } from "../base/text.ts";
import { Turn } from "../base/turn.ts";
import { checkpointError, type CheckpointErrorCode, type CheckpointLimits, limitError } from "./errors.ts";
import {
  describe,
  dictSize,
  keyText,
  type PersistentId,
  PickleCall,
  PickleDict,
  PickleFloat,
  PickleList,
  PickleSet,
  PickleTuple,
  type PickleValue,
} from "./pickle_value.ts";
import { isTensor } from "./rebuild.ts";

/* ---- The values of a checkpoint that are skipped ---- */

/** A skipped value: it is not a tensor, it is outside `root`, or it is a tensor that cannot be read. */
export interface SkippedValue {
  /** Its name. */
  readonly name: string;
  /** A short description. */
  readonly kind: string;
  /** The number of tensors in it, if it is a skipped dict, list or object that holds tensors. */
  readonly tensors?: number;
  /** Set for a tensor. */
  readonly isTensor?: true;
}

/** The number of values of each kind that a summary names. */
const NAMED = 3;

/** Lists the skipped values in one line; empty without skipped values. */
export function summarizeSkipped(skipped: readonly SkippedValue[]): string {
  const holders = skipped.filter(({ tensors }) => tensors !== undefined);
  const tensors = skipped.filter(({ isTensor }) => isTensor);
  const others = skipped.filter(({ isTensor, tensors }) => !isTensor && tensors === undefined);
  const parts = [
    ...listed(
      holders,
      ({ name, tensors = 0 }) => `${tensors} ${tensors === 1 ? "tensor" : "tensors"} in ${quote(name)}`,
    ),
    ...listed(tensors, ({ name, kind }) => `tensor ${quote(name)} (${kind})`),
  ];
  if (others.length > 0) {
    const [{ name, kind }] = others as [SkippedValue];
    const count = others.length === 1
      ? "1 value that is not a tensor"
      : `${others.length} values that are not tensors`;
    parts.push(`${count}, such as ${quote(name)} (${kind})`);
  }
  return parts.join(", ");
}

function listed(values: readonly SkippedValue[], text: (value: SkippedValue) => string): string[] {
  const more = values.length - NAMED;
  return [...values.slice(0, NAMED).map(text), ...more > 0 ? [`${more} more like these`] : []];
}

/* ---- The members of values: entries of dicts, items of lists, tensors of modules ---- */

/** The values in a container, with their keys or indices. */
interface Members {
  /** Whether they have names: those of a list have numbers. */
  readonly named: boolean;
  /** Whether it is a module; its parts often have no tensors. */
  readonly isModule?: true;
  /** How many there are. */
  readonly size: number;
  /** The key and the value of one of them; undefined if a dict was made from values that are not pairs. */
  at(index: number): readonly [key: PickleValue, value: PickleValue] | undefined;
}

/** Finds the members of values, by the kind of value. */
class MemberFinder {
  /** The members of object states, computed once, because a million objects can share one state. */
  readonly #modules = new Map<PickleDict, Members | undefined>();

  /**
   * The members of a container: a dict, a list, a tuple; an object of an unknown class with the items of a dict or
   * list, such as an AttributeDict or a deque; or a module, whose members have the names of its `state_dict()`.
   * Undefined for every other value, also for a Counter, which holds numbers.
   */
  of(value: PickleValue): Members | undefined {
    if (value instanceof PickleDict) {
      return value.type === "collections.Counter" ? undefined : dictMembers(value);
    }
    if (value instanceof PickleList || value instanceof PickleTuple) return listMembers(value.items);
    const object = objectOf(value);
    if (object?.entries) return dictMembers(new PickleDict("dict", null, object.entries));
    if (object?.items) return listMembers(object.items);
    return this.#module(object?.state);
  }

  /** The attributes of an object of an unknown class. */
  attributesOf(value: PickleValue): Members | undefined {
    const state = objectOf(value)?.state;
    return state instanceof PickleDict ? dictMembers(state) : undefined;
  }

  #module(state: PickleValue | undefined): Members | undefined {
    if (!(state instanceof PickleDict)) return undefined;
    if (!this.#modules.has(state)) this.#modules.set(state, moduleMembers(state));
    return this.#modules.get(state);
  }
}

/** The value as an object of an unknown class. */
function objectOf(value: PickleValue): PickleCall | undefined {
  return value instanceof PickleCall && !isTensor(value as PickleValue) ? value : undefined;
}

function listMembers(items: readonly PickleValue[]): Members {
  return { named: false, size: items.length, at: (index) => [index, items[index]!] };
}

function dictMembers(dict: PickleDict): Members {
  const { initial, entries } = dict;
  const pairs = initial instanceof PickleList ? initial.items : undefined;
  const first = initial instanceof PickleDict ? initial.entries : [];
  const given = pairs?.length ?? first.length / 2;
  return {
    named: true,
    size: dictSize(dict),
    at(index) {
      if (pairs && index < given) return pairOf(pairs[index]!);
      const [from, at] = index < given ? [first, index * 2] : [entries, (index - given) * 2];
      return [from[at]!, from[at + 1]!];
    },
  };
}

function pairOf(value: PickleValue): readonly [PickleValue, PickleValue] | undefined {
  const isPair = (value instanceof PickleList || value instanceof PickleTuple) && value.items.length === 2;
  return isPair ? [value.items[0]!, value.items[1]!] : undefined;
}

/**
 * The members that `state_dict()` of a torch.nn.Module with these attributes, ParameterDict and ParameterList too,
 * has: parameters, then buffers that are persistent, then the same of the modules in it. Undefined for other
 * objects.
 */
function moduleMembers(state: PickleDict): Members | undefined {
  const attributes = new Map<PickleValue, PickleValue>();
  const all = dictMembers(state);
  for (let i = 0; i < all.size; i++) {
    const pair = all.at(i);
    if (pair) attributes.set(...pair as [PickleValue, PickleValue]);
  }
  const [parameters, buffers, modules] = ["_parameters", "_buffers", "_modules"].map((name) =>
    attributes.get(name)
  );
  const isModule = parameters instanceof PickleDict && buffers instanceof PickleDict &&
    modules instanceof PickleDict;
  if (!isModule) return undefined;
  const passing = new Set(itemsOfSet(attributes.get("_non_persistent_buffers_set")));
  const members: (readonly [PickleValue, PickleValue])[] = [];
  for (const dict of [parameters, buffers, modules]) {
    const entries = dictMembers(dict);
    for (let i = 0; i < entries.size; i++) {
      const pair = entries.at(i);
      // None is the value of an unset parameter, buffer or module.
      if (!pair || pair[1] === null || dict === buffers && passing.has(pair[0])) continue;
      members.push(pair);
    }
  }
  return { named: true, isModule: true, size: members.length, at: (index) => members[index] };
}

/** The items of a set, which protocols 0 to 3 make from a list. */
function itemsOfSet(value: PickleValue | undefined): readonly PickleValue[] {
  if (value instanceof PickleSet) return value.items;
  const [list] = value instanceof PickleCall && value.callee.path === "builtins.set" ? value.args : [];
  return list instanceof PickleList ? list.items : [];
}

/** Counts the tensors in values, also in values that are not containers, such as attributes of objects. */
class TensorCounter {
  readonly #counts = new Map<PickleValue, number>();

  /**
   * The tensors in `value`; one that occurs twice counts twice. Each value is visited once, even if others share
   * it, so that the size of the pickle bounds the work.
   */
  count(value: PickleValue): number {
    const stack = [new Counting(value)];
    for (;;) {
      const top = stack.at(-1)!;
      const next = top.next();
      if (next === undefined) {
        stack.pop();
        this.#counts.set(top.value, top.sum);
        const parent = stack.at(-1);
        if (!parent) return top.sum;
        parent.sum += top.sum;
      } else if (typeof next !== "object" || next === null) continue;
      else if (isTensor(next)) top.sum++;
      else if (this.#counts.has(next)) top.sum += this.#counts.get(next)!;
      else {
        this.#counts.set(next, 0); // a value that contains itself ends the recursion here
        stack.push(new Counting(next));
      }
    }
  }
}

/** A value whose tensors are being counted. */
class Counting {
  readonly value: PickleValue;
  sum = 0;
  readonly #lists: readonly (readonly PickleValue[])[];
  #list = 0;
  #item = 0;

  constructor(value: PickleValue) {
    this.value = value;
    this.#lists = partsOf(value);
  }

  /** The next value in it; undefined after the last. */
  next(): PickleValue | undefined {
    for (; this.#list < this.#lists.length; this.#list++, this.#item = 0) {
      const list = this.#lists[this.#list]!;
      if (this.#item < list.length) return list[this.#item++];
    }
    return undefined;
  }
}

/** All values inside a value, as lists. */
function partsOf(value: PickleValue): readonly (readonly PickleValue[])[] {
  if (value instanceof PickleDict) return [[value.initial], value.entries];
  if (value instanceof PickleList || value instanceof PickleTuple || value instanceof PickleSet) {
    return [value.items];
  }
  if (!(value instanceof PickleCall)) return [];
  const { args, keywords = null, state = null, items = [], entries = [] } = value;
  return [args, [keywords, state], items, entries];
}

/** Describes a value and the number of its tensors. */
function describeWithTensors(value: PickleValue, tensors: number): string {
  return tensors === 0
    ? describe(value)
    : `${describe(value)} with ${tensors} tensor${tensors === 1 ? "" : "s"}`;
}

/** The tensors and other values of a saved object. */
interface FlatStateDict {
  /** The pickle values of the tensors, by name, in the order of the state dict. */
  readonly tensors: ReadonlyMap<string, FoundTensor>;
  /** The skipped values. */
  readonly skipped: readonly SkippedValue[];
  /** Notes about the names, for the user. */
  readonly notes: readonly string[];
}

/** A tensor and its place in the saved object. */
interface FoundTensor {
  /** Its pickle value. */
  readonly value: PickleCall | PersistentId;
  /** Its dict or list. */
  readonly container: PickleValue;
  /** Its key or index there. */
  readonly key: PickleValue;
}

/** A container and its members. */
interface Part extends Members {
  readonly value: PickleValue;
}

/** Options of {@linkcode flattenStateDict}. */
interface FlattenOptions {
  /** The file, for messages. */
  readonly path: string;
  /** The limits. */
  readonly limits: Required<CheckpointLimits>;
  /** The part of the object to read; "" for all of it. */
  readonly root: string | undefined;
  /** The name of a tensor that was saved alone. */
  readonly stem: string;
}

/**
 * The most characters of all names together; the longest header is 100 MB. Without this limit, one long key that a
 * million values share would make a million long names.
 */
const MAX_NAME_CHARACTERS = 2 ** 26;

/** The event loop gets a turn after this many values. */
const TURN_STEPS = 1024;

/** How many roots a message lists. */
const MAX_LISTED = 10;

/** A container between the root and the present position of the traversal. */
interface Frame {
  readonly value: PickleValue;
  readonly members: Members;
  readonly name: string | undefined;
  next: number;
  /** The number of tensors found or skipped before it. */
  readonly tensorsBefore: number;
  /** The number of values skipped before it. */
  readonly skippedBefore: number;
}

/**
 * Names the tensors in `root` by their keys and indices, joined with dots.
 *
 * Without the option `root`, only the dict `state_dict` of a checkpoint `{"state_dict": …}` is read; its
 * neighbours are listed as skipped. A dict or list without tensors is also skipped, as one value.
 *
 * @throws {SafeTensorsError} "UnsupportedCheckpoint" if it holds no tensors that can be named, "LimitExceeded";
 * "InvalidCheckpoint" for a key that one dict has twice; "TensorNotFound" for a `root` that does not exist
 */
export async function flattenStateDict(root: PickleValue, options: FlattenOptions): Promise<FlatStateDict> {
  return await new Flattener(options).run(root);
}

class Flattener {
  readonly #options: FlattenOptions;
  readonly #finder = new MemberFinder();
  readonly #counter = new TensorCounter();
  readonly #tensors = new Map<string, FoundTensor>();
  readonly #skipped: SkippedValue[] = [];
  /** The first tensor with a name that was already used, and the number of such tensors. */
  #renamed = { name: "", unique: "", count: 0 };
  readonly #frames: Frame[] = [];
  /** The containers of the frames, to detect one that contains itself. */
  readonly #open = new Set<PickleValue>();
  #skippedTensors = 0;
  #values = 0;
  #nameCharacters = 0;
  readonly #turn = new Turn();

  constructor(options: FlattenOptions) {
    this.#options = options;
  }

  async run(root: PickleValue): Promise<FlatStateDict> {
    if (isTensor(root)) this.#tensors.set(this.#options.stem, { value: root, container: null, key: null });
    else await this.#walk(await this.#choose(root));
    if (this.#tensors.size === 0 && this.#skippedTensors > 0) {
      throw this.#error(
        "UnsupportedCheckpoint",
        `its tensors are in values that are read only if chosen: ${
          this.#listRoots(root)
        }: choose one as the root`,
      );
    }
    return { tensors: this.#tensors, skipped: this.#skipped, notes: this.#notes() };
  }

  async #walk(chosen: Part): Promise<void> {
    this.#enter(undefined, chosen.value, chosen);
    for (let frame; (frame = this.#frames.at(-1)) !== undefined;) {
      if (frame.next === frame.members.size) {
        this.#leave(frame);
        continue;
      }
      const [key, value] = this.#pair(frame.members, frame.next++);
      const name = this.#name(frame.name, key);
      if (this.#values % TURN_STEPS === 0) await this.#turn.pause();
      const members = this.#finder.of(value);
      // The tensors of a container inside itself already have names.
      if (this.#open.has(value)) this.#skipped.push({ name, kind: `${describe(value)} that contains it` });
      else if (members) this.#enter(name, value, members);
      else if (isTensor(value)) this.#add(name, { value, container: frame.value, key });
      else this.#skip(name, value);
    }
  }

  // The choice of the part to read

  /** Chooses the part to read; its neighbours are skipped. */
  async #choose(root: PickleValue): Promise<Part> {
    const { root: wanted } = this.#options;
    const members = this.#finder.of(root) ?? (wanted ? this.#finder.attributesOf(root) : undefined);
    if (!members) {
      const tensors = this.#counter.count(root);
      throw this.#error(
        "UnsupportedCheckpoint",
        `it holds ${
          describeWithTensors(root, tensors)
        }: a tensor, or a dict, list or module of named tensors expected` +
          (tensors > 0 ? `; its attributes can be chosen as the root: ${this.#listRoots(root)}` : ""),
      );
    }
    const whole = { ...members, value: root };
    if (wanted === undefined) return await this.#unwrap(whole) ?? whole;
    return wanted === "" ? whole : await this.#descend(whole, wanted, root);
  }

  /** The state dict of a checkpoint that has other entries too. */
  async #unwrap(root: Part): Promise<Part | undefined> {
    if (!root.named) return undefined;
    let found: PickleValue | undefined;
    for (let i = 0; i < root.size; i++) {
      if (i % TURN_STEPS === 0) await this.#turn.pause();
      const [key, value] = this.#pair(root, i);
      if (key !== "state_dict") continue;
      if (found !== undefined) {
        throw this.#error("InvalidCheckpoint", `it has two values named "state_dict"`);
      }
      found = value;
    }
    const members = found === undefined ? undefined : this.#finder.of(found);
    if (!members?.named) return undefined;
    await this.#skipBeside(root, undefined, "state_dict");
    return { ...members, value: found! };
  }

  /** Finds the part with a name that has dots. */
  async #descend(
    root: Part,
    wanted: string,
    top: PickleValue,
  ): Promise<Part> {
    let part = root;
    let at: string | undefined;
    for (let rest: string | undefined = wanted; rest !== undefined;) {
      const step = await this.#step(part, rest);
      const members = step && (this.#finder.of(step.value) ?? this.#finder.attributesOf(step.value));
      if (!step || !members) {
        const why = step && isTensor(step.value)
          ? `${quote(wanted)} is one tensor, not a root`
          : step
          ? `${quote(wanted)} is ${describe(step.value)}, which has no named tensors`
          : `it has no root ${quote(wanted)}`;
        throw this.#error("TensorNotFound", `${why}: there are ${this.#listRoots(top)}`);
      }
      await this.#skipBeside(part, at, step.key);
      at = at === undefined ? step.key : `${at}.${step.key}`;
      part = { ...members, value: step.value };
      rest = step.rest;
    }
    return part;
  }

  /** The member whose name is `rest`, or the beginning of it before a dot; the longest such. */
  async #step(
    part: Members,
    rest: string,
  ): Promise<{ key: string; value: PickleValue; rest: string | undefined } | undefined> {
    let found: { key: string; value: PickleValue; rest: string | undefined } | undefined;
    for (let i = 0; i < part.size; i++) {
      if (i % TURN_STEPS === 0) await this.#turn.pause();
      const [key, value] = this.#pair(part, i);
      const name = keyText(key);
      if (rest !== name && !rest.startsWith(`${name}.`) || found && name.length <= found.key.length) continue;
      found = { key: name, value, rest: rest === name ? undefined : rest.slice(name.length + 1) };
    }
    return found;
  }

  async #skipBeside(members: Members, parent: string | undefined, taken: string): Promise<void> {
    for (let i = 0; i < members.size; i++) {
      if (i % TURN_STEPS === 0) await this.#turn.pause();
      const [key, value] = this.#pair(members, i);
      if (keyText(key) !== taken) this.#skip(this.#name(parent, key), value);
    }
  }

  /** Lists the possible roots, for a message. */
  #listRoots(top: PickleValue): string {
    const members = this.#finder.of(top) ?? this.#finder.attributesOf(top);
    const roots: string[] = [];
    for (let i = 0; i < (members?.size ?? 0); i++) {
      const [key, value] = this.#pair(members!, i);
      const tensors = isTensor(value) ? 0 : this.#counter.count(value);
      if (tensors === 0) continue;
      roots.push(`${quote(keyText(key))} (${tensors} tensor${tensors === 1 ? "" : "s"})`);
    }
    const listed = roots.slice(0, MAX_LISTED).join(", ");
    const more = roots.length > MAX_LISTED ? ` and ${roots.length - MAX_LISTED} more` : "";
    return listed === "" ? "none" : listed + more;
  }

  // The traversal

  #enter(name: string | undefined, value: PickleValue, members: Members): void {
    const { path, limits: { maxNesting } } = this.#options;
    if (this.#frames.length >= maxNesting) {
      throw limitError(path, `${place(name)} nests too deep: ${maxNesting} levels are allowed`, "maxNesting");
    }
    this.#open.add(value);
    this.#frames.push({
      value,
      members,
      name,
      next: 0,
      tensorsBefore: this.#tensors.size + this.#skippedTensors,
      skippedBefore: this.#skipped.length,
    });
  }

  /** Skips a container without tensors as one value. */
  #leave({ value, name, tensorsBefore, skippedBefore }: Frame): void {
    this.#frames.pop();
    this.#open.delete(value);
    if (name === undefined || this.#tensors.size + this.#skippedTensors > tensorsBefore) return;
    this.#skipped.length = skippedBefore;
    // Many modules in a module, such as activations, have no tensors.
    if (!this.#frames.at(-1)?.members.isModule) this.#skip(name, value);
  }

  /** Adds a tensor. Different keys in Python can give the same name: 0 and "0", or "a.b" and b in a. */
  #add(name: string, found: FoundTensor): void {
    let unique = name;
    for (let n = 2, other; (other = this.#tensors.get(unique)) !== undefined; n++) {
      if (other.container === found.container && sameKey(found.key, other.key)) {
        throw this.#error("InvalidCheckpoint", `two of its tensors are named ${quote(name)}`);
      }
      unique = `${name}~${n}`;
      this.#countName(unique);
    }
    if (unique !== name) {
      this.#renamed = {
        ...this.#renamed.count === 0 ? { name, unique } : this.#renamed,
        count: this.#renamed.count + 1,
      };
    }
    this.#tensors.set(unique, found);
  }

  #notes(): string[] {
    const { name, unique, count } = this.#renamed;
    if (count === 0) return [];
    const others = count === 1 ? "" : `; so are ${count - 1} others`;
    return [
      `two of its tensors are named ${quote(name)}: the second one is renamed to ${quote(unique)}${others}`,
    ];
  }

  #skip(name: string, value: PickleValue): void {
    const itself = isTensor(value);
    const tensors = itself ? 0 : this.#counter.count(value);
    this.#skippedTensors += itself ? 1 : tensors;
    this.#skipped.push(
      itself
        ? { name, kind: "tensor", isTensor: true }
        : { name, kind: describe(value), ...tensors > 0 ? { tensors } : {} },
    );
  }

  /** Makes the name of the value with this key, and counts the value. */
  #name(parent: string | undefined, key: PickleValue): string {
    const { path, limits: { maxValues } } = this.#options;
    if (++this.#values > maxValues) {
      throw limitError(path, `its state dict has more values than the ${maxValues} allowed`, "maxValues");
    }
    const name = parent === undefined ? keyText(key) : `${parent}.${keyText(key)}`;
    this.#countName(name);
    return name;
  }

  #countName(name: string): void {
    if ((this.#nameCharacters += name.length) > MAX_NAME_CHARACTERS) {
      throw this.#error(
        "UnsupportedCheckpoint",
        `the names in it have more than ${MAX_NAME_CHARACTERS} characters`,
      );
    }
  }

  #pair(members: Members, index: number): readonly [PickleValue, PickleValue] {
    const pair = members.at(index);
    if (pair) return pair;
    throw this.#error("InvalidPickle", "an OrderedDict is made from values that are not pairs");
  }

  #error(code: CheckpointErrorCode, detail: string): Error {
    return checkpointError(code, this.#options.path, detail);
  }
}

/** Whether two keys are equal in Python. */
function sameKey(a: PickleValue, b: PickleValue): boolean {
  return a === b || a instanceof PickleFloat && b instanceof PickleFloat && a.value === b.value;
}

function place(name: string | undefined): string {
  return name === undefined ? "the state dict" : quote(name);
}
