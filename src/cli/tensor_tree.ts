/**
 * Tensors as a tree, split at the dots in their names: branches with their totals, equal branches shown once.
 */
import { formatBytes, formatCount, formatTable, printable } from "./text.ts";

/** The facts of a tensor that the tree shows. */
export interface ListedTensor {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: number;
}

/** The most levels of the tree: a name in a file may have a million dots. */
const MAX_LEVELS = 64;

/** All tensors whose names have one prefix. */
interface Branch {
  /** Next part of the name → the tensor with exactly this name, and the tensors with this prefix. */
  readonly children: Map<string, { tensor?: ListedTensor; branch?: Branch }>;
}

/** A line of the tree: a tensor, a branch, or a run of branches that differ only in their number. */
interface Item {
  readonly label: string;
  /** The number of equal items. */
  readonly count: number;
  /** A key that is equal for items that look the same. */
  readonly kind: number;
  /** The one tensor; undefined for a branch. */
  readonly tensor: ListedTensor | undefined;
  /** The content of one of them. */
  readonly items: readonly Item[];
  /** Tensors in one of them. */
  readonly tensors: number;
  /** Bytes of one of them. */
  readonly bytes: number;
}

/**
 * The tree as a table of lines.
 *
 * @param depth levels shown
 */
export function drawTree(tensors: readonly ListedTensor[], depth = Infinity): string {
  const rows: string[][] = [];
  const draw = (items: readonly Item[], indent: string, level: number) => {
    items.map(shorten).forEach((item, index) => {
      const isLast = index === items.length - 1;
      const [joint, below] = level === 1 ? ["", ""] : isLast ? ["└─ ", "   "] : ["├─ ", "│  "];
      rows.push(rowOf(item, indent + joint));
      if (level < depth) draw(item.items, indent + below, level + 1);
    });
  };
  draw(new TreeBuilder().build(tensors), "", 1);
  return formatTable(rows, [3]);
}

/** A branch with one child shares its line with the child. */
function shorten(item: Item): Item {
  const [only, second] = item.items;
  if (!only || second || item.count > 1 && only.count > 1) return item;
  return shorten({ ...only, label: `${item.label}.${only.label}`, count: item.count * only.count });
}

function rowOf({ label, count, tensor, tensors, bytes }: Item, indent: string): string[] {
  const times = count === 1 ? "" : `${count} × `;
  return [
    indent + label,
    tensor?.dtype ?? "",
    tensor ? `[${tensor.shape.join(", ")}]` : times + formatCount(tensors, "tensor"),
    times + formatBytes(bytes),
  ];
}

/** Turns names into items. */
class TreeBuilder {
  /** 2 comes before 10. */
  readonly #order = new Intl.Collator("en", { numeric: true });
  /** Appearance of an item → its kind. */
  readonly #kinds = new Map<string, number>();

  build(tensors: readonly ListedTensor[]): readonly Item[] {
    const root: Branch = { children: new Map() };
    for (const tensor of tensors) insert(root, tensor);
    return this.#itemsOf(root);
  }

  #itemsOf({ children }: Branch): readonly Item[] {
    const items: Item[] = [];
    let runStart = NaN;
    const append = (part: string, item: Item) => {
      const last = items.at(-1);
      const joined = last && part === String(runStart + last.count) && item.kind === last.kind;
      if (joined) {
        items[items.length - 1] = { ...last, label: `${runStart}–${part}`, count: last.count + 1 };
      } else {
        items.push(item);
        runStart = Number(part); // NaN for most parts: no number continues NaN
      }
    };
    const sorted = [...children].sort(([a], [b]) => this.#order.compare(a, b) || (a < b ? -1 : 1));
    for (const [part, { tensor, branch }] of sorted) {
      if (tensor) append(part, this.#leaf(part, tensor));
      if (branch) append(part, this.#branch(part, branch));
    }
    return items;
  }

  #leaf(part: string, tensor: ListedTensor): Item {
    const kind = this.#kindOf([tensor.dtype, ...tensor.shape]);
    const { bytes } = tensor;
    return { label: labelOf(part), count: 1, kind, tensor, items: [], tensors: 1, bytes };
  }

  #branch(part: string, branch: Branch): Item {
    const items = this.#itemsOf(branch);
    const kind = this.#kindOf(items.map(({ label, kind, count }) => [label, kind, count]));
    return {
      label: labelOf(part),
      count: 1,
      kind,
      tensor: undefined,
      items,
      tensors: sum(items, ({ count, tensors }) => count * tensors),
      bytes: sum(items, ({ count, bytes }) => count * bytes),
    };
  }

  #kindOf(look: unknown): number {
    const text = JSON.stringify(look);
    const kind = this.#kinds.get(text) ?? this.#kinds.size;
    this.#kinds.set(text, kind);
    return kind;
  }
}

function insert(root: Branch, tensor: ListedTensor): void {
  const parts = tensor.name.split(".");
  if (parts.length > MAX_LEVELS) parts.push(parts.splice(MAX_LEVELS - 1).join("."));
  let branch = root;
  parts.forEach((part, level) => {
    let child = branch.children.get(part);
    if (!child) branch.children.set(part, child = {});
    if (level === parts.length - 1) child.tensor = tensor;
    else branch = child.branch ??= { children: new Map() };
  });
}

/** A part of a name; an empty part is shown as quotes. */
function labelOf(part: string): string {
  return part === "" ? '""' : printable(part);
}

function sum(items: readonly Item[], value: (item: Item) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}
