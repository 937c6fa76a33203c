/** From the saved object to named leaves: which of them are tensors, and what the others are. */
import { quote } from "../format/text.ts";
import { checkpointError, type CheckpointErrorCode } from "./checkpoint_error.ts";
import type { CheckpointLimits } from "./limits.ts";
import {
  describe,
  dictSize,
  PersistentId,
  PickleCall,
  PickleDict,
  PickleList,
  PickleTuple,
  type PickleValue,
} from "./pickle_value.ts";

/** A leaf that is not a tensor, and so is left out. */
export interface SkippedValue {
  /** Its name in the state dict. */
  readonly name: string;
  /** A few words on what it is. */
  readonly kind: string;
}

/** The leaves of a state dict. */
export interface FlatStateDict {
  /** The calls that would make the tensors, by name, in the order of the state dict. */
  readonly tensors: ReadonlyMap<string, PickleCall>;
  /** The leaves that are left out. */
  readonly skipped: readonly SkippedValue[];
}

/**
 * The characters that all names together may have; the header they go into is no longer than 100 MB. Without
 * this, one long key shared by a million leaves would be a million long names.
 */
const MAX_NAME_CHARACTERS = 2 ** 26;

type Container = PickleDict | PickleList | PickleTuple;

/** A container on the way from the root to where the traversal stands. */
interface Frame {
  readonly container: Container;
  readonly name: string | undefined;
  readonly size: number;
  next: number;
  /** How many tensors had been found before it was entered. */
  readonly tensorsBefore: number;
  /** How many values had been left out before it was entered. */
  readonly skippedBefore: number;
}

/**
 * Names the leaves of `root`: keys and indices on the way, joined with dots.
 *
 * Of a checkpoint `{"state_dict": …}` only that dict is taken; what stands beside it is listed as left out.
 * So is a list without tensors, as one value.
 *
 * @throws {SafeTensorsError} "UnsupportedCheckpoint" for bare storages, for keys without a name, and beyond
 * the limits; "InvalidCheckpoint" for cycles and for tensors of the same name
 */
export function flattenStateDict(
  root: PickleValue,
  path: string,
  limits: Required<CheckpointLimits>,
): FlatStateDict {
  return new Flattener(path, limits).run(root);
}

class Flattener {
  readonly #path: string;
  readonly #limits: Required<CheckpointLimits>;
  readonly #tensors = new Map<string, PickleCall>();
  readonly #skipped: SkippedValue[] = [];
  readonly #frames: Frame[] = [];
  /** The containers of the frames, to notice one that holds itself. */
  readonly #open = new Set<Container>();
  #values = 0;
  #nameCharacters = 0;

  constructor(path: string, limits: Required<CheckpointLimits>) {
    this.#path = path;
    this.#limits = limits;
  }

  run(root: PickleValue): FlatStateDict {
    if (!isContainer(root)) {
      throw this.#error(
        "UnsupportedCheckpoint",
        `it holds ${describeRoot(root)}: a dict of named tensors expected`,
      );
    }
    this.#enter(undefined, this.#unwrap(root));
    for (let frame; (frame = this.#frames.at(-1)) !== undefined;) {
      if (frame.next === frame.size) {
        this.#leave(frame);
        continue;
      }
      const [key, value] = this.#entry(frame, frame.next++);
      const name = frame.name === undefined ? key : `${frame.name}.${key}`;
      this.#count(name);
      if (isContainer(value)) this.#enter(name, value);
      else this.#leaf(name, value);
    }
    return { tensors: this.#tensors, skipped: this.#skipped };
  }

  /** The state dict of a checkpoint that has more beside it. */
  #unwrap(root: Container): Container {
    if (!(root instanceof PickleDict)) return root;
    const entries = Array.from({ length: dictSize(root) }, (_, i) => this.#pair(root, i));
    const found = entries.filter(([key]) => key === "state_dict");
    if (found.length > 1) throw this.#error("InvalidCheckpoint", `it has two values named "state_dict"`);
    const inner = found[0]?.[1];
    if (!(inner instanceof PickleDict)) return root;
    for (const [key, value] of entries) {
      if (key === "state_dict") continue;
      const name = this.#keyName(key, undefined);
      this.#count(name);
      this.#skip(name, value);
    }
    return inner;
  }

  #enter(name: string | undefined, container: Container): void {
    if (this.#open.has(container)) throw this.#error("InvalidCheckpoint", `${place(name)} contains itself`);
    if (this.#frames.length >= this.#limits.maxNesting) {
      throw this.#error(
        "UnsupportedCheckpoint",
        `${place(name)} nests too deep: ${this.#limits.maxNesting} levels are allowed (maxNesting)`,
      );
    }
    this.#open.add(container);
    this.#frames.push({
      container,
      name,
      size: container instanceof PickleDict ? dictSize(container) : container.items.length,
      next: 0,
      tensorsBefore: this.#tensors.size,
      skippedBefore: this.#skipped.length,
    });
  }

  #leave({ container, name, tensorsBefore, skippedBefore }: Frame): void {
    this.#frames.pop();
    this.#open.delete(container);
    if (container instanceof PickleDict || name === undefined || this.#tensors.size > tensorsBefore) return;
    // Its items have no names of their own that would tell a person more.
    this.#skipped.length = skippedBefore;
    this.#skip(name, container);
  }

  #leaf(name: string, value: PickleValue): void {
    if (value instanceof PersistentId) {
      throw this.#error(
        "UnsupportedCheckpoint",
        `${place(name)} is a bare storage, without a dtype and a shape`,
      );
    }
    if (!isTensor(value)) return this.#skip(name, value);
    if (this.#tensors.has(name)) {
      throw this.#error("InvalidCheckpoint", `two of its tensors are named ${quote(name)}`);
    }
    this.#tensors.set(name, value);
  }

  #skip(name: string, value: PickleValue): void {
    this.#skipped.push({ name, kind: describe(value) });
  }

  #count(name: string): void {
    if (++this.#values > this.#limits.maxValues) {
      throw this.#error(
        "UnsupportedCheckpoint",
        `its state dict has more values than the ${this.#limits.maxValues} allowed (maxValues)`,
      );
    }
    if ((this.#nameCharacters += name.length) > MAX_NAME_CHARACTERS) {
      throw this.#error(
        "UnsupportedCheckpoint",
        `the names in it have more than ${MAX_NAME_CHARACTERS} characters`,
      );
    }
  }

  #entry(frame: Frame, index: number): [string, PickleValue] {
    const { container, name } = frame;
    if (!(container instanceof PickleDict)) return [String(index), container.items[index]!];
    const [key, value] = this.#pair(container, index);
    return [this.#keyName(key, name), value];
  }

  /** Key and value of a dict; those that its constructor was given come first. */
  #pair(dict: PickleDict, index: number): [PickleValue, PickleValue] {
    const initial = dict.initial instanceof PickleList ? dict.initial.items : [];
    if (index >= initial.length) {
      const at = (index - initial.length) * 2;
      return [dict.entries[at]!, dict.entries[at + 1]!];
    }
    const pair = initial[index]!;
    if ((pair instanceof PickleList || pair instanceof PickleTuple) && pair.items.length === 2) {
      return [pair.items[0]!, pair.items[1]!];
    }
    throw this.#error("InvalidPickle", `an OrderedDict is made of ${describe(pair)}: pairs expected`);
  }

  #keyName(key: PickleValue, parent: string | undefined): string {
    switch (typeof key) {
      case "string":
        return key;
      case "number":
      case "bigint":
        return String(key);
      case "boolean":
        return key ? "True" : "False";
    }
    if (key === null) return "None";
    throw this.#error(
      "UnsupportedCheckpoint",
      `a key of ${place(parent)} is ${describe(key)}: a str or int expected`,
    );
  }

  #error(code: CheckpointErrorCode, detail: string): Error {
    return checkpointError(code, this.#path, detail);
  }
}

function place(name: string | undefined): string {
  return name === undefined ? "the state dict" : quote(name);
}

function describeRoot(root: PickleValue): string {
  return isTensor(root) ? "one tensor without a name" : describe(root);
}

/** Whether `value` has values of its own to be named; a Counter counts, and holds no tensors. */
function isContainer(value: PickleValue): value is Container {
  if (value instanceof PickleDict) return value.type !== "collections.Counter";
  return value instanceof PickleList || value instanceof PickleTuple;
}

function isTensor(value: PickleValue): value is PickleCall {
  return value instanceof PickleCall && (value.callee.role === "tensor" || value.callee.role === "wrapper");
}
