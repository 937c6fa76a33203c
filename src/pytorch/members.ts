/** What is in a value of a pickle: the entries of dicts, the items of lists, the tensors of modules. */
import {
  describe,
  dictSize,
  PickleCall,
  PickleDict,
  PickleList,
  PickleSet,
  PickleTuple,
  type PickleValue,
} from "./pickle_value.ts";
import { isTensor } from "./rebuild.ts";

/** The values in a container, with the keys or indices under which they are there. */
export interface Members {
  /** Whether they have names: those of a list have numbers. */
  readonly named: boolean;
  /** Whether it is a module, the parts of which may well have no tensors. */
  readonly isModule?: true;
  /** How many there are. */
  readonly size: number;
  /** The key and the value of one of them; undefined where a dict was made of something else than pairs. */
  at(index: number): readonly [key: PickleValue, value: PickleValue] | undefined;
}

/** Finds the members of values, each kind of value in its own way. */
export class MemberFinder {
  /** What has been found out about the states of objects; one state can be that of a million objects. */
  readonly #modules = new Map<PickleDict, Members | undefined>();

  /**
   * The members of a container: a dict, a list, a tuple; an object of an unknown class that is filled as a dict or as a
   * list, such as an AttributeDict or a deque; or a module, whose members are named as by its `state_dict()`. Undefined
   * for every other value. A Counter counts, and holds no tensors.
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
 * What `state_dict()` would give of a torch.nn.Module with these attributes, ParameterDict and ParameterList included:
 * parameters, then buffers that are persistent, then the same of the modules in it. Undefined for other objects.
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
      // None stands for a parameter, buffer or module that could be there.
      if (!pair || pair[1] === null || dict === buffers && passing.has(pair[0])) continue;
      members.push(pair);
    }
  }
  return { named: true, isModule: true, size: members.length, at: (index) => members[index] };
}

/** The items of a set, which protocols 0 to 3 make of a list. */
function itemsOfSet(value: PickleValue | undefined): readonly PickleValue[] {
  if (value instanceof PickleSet) return value.items;
  const [list] = value instanceof PickleCall && value.callee.path === "builtins.set" ? value.args : [];
  return list instanceof PickleList ? list.items : [];
}

/** Counts the tensors in values, also in those that are no containers, such as the attributes of objects. */
export class TensorCounter {
  readonly #counts = new Map<PickleValue, number>();

  /**
   * The tensors in `value`, where one that is met twice counts twice. Each value is looked through once, however many
   * others share it, so that the work is bounded by the size of the pickle.
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
        this.#counts.set(next, 0); // until it is known: for values that contain themselves
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

/** Everything in a value, as lists. */
function partsOf(value: PickleValue): readonly (readonly PickleValue[])[] {
  if (value instanceof PickleDict) return [[value.initial], value.entries];
  if (value instanceof PickleList || value instanceof PickleTuple || value instanceof PickleSet) {
    return [value.items];
  }
  if (!(value instanceof PickleCall)) return [];
  const { args, keywords = null, state = null, items = [], entries = [] } = value;
  return [args, [keywords, state], items, entries];
}

/** A few words on a value, with the tensors in it. */
export function describeWithTensors(value: PickleValue, tensors: number): string {
  return tensors === 0
    ? describe(value)
    : `${describe(value)} with ${tensors} tensor${tensors === 1 ? "" : "s"}`;
}
