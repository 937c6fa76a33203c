/**
 * A set of byte ranges of a file, such as those that a partial file has.
 */

/** A range of bytes: from `start` to before `stop`. */
export interface ByteRange {
  readonly start: number;
  readonly stop: number;
}

/** A set of byte ranges. Ranges that touch are one. */
export class Ranges implements Iterable<ByteRange> {
  /** Sorted, and with gaps between them. */
  readonly #ranges: { start: number; stop: number }[] = [];

  /** Iterates over the ranges in the order of the file. */
  [Symbol.iterator](): Iterator<ByteRange> {
    return this.#ranges[Symbol.iterator]();
  }

  /** Bytes of all ranges. */
  get bytes(): number {
    return this.#ranges.reduce((sum, { start, stop }) => sum + stop - start, 0);
  }

  /** Adds a range; an empty one has no effect. */
  add(start: number, stop: number): void {
    if (stop <= start) return;
    const first = this.#firstEndingAt(start);
    let after = first;
    let from = start, to = stop;
    for (; after < this.#ranges.length && this.#ranges[after]!.start <= stop; after++) {
      from = Math.min(from, this.#ranges[after]!.start);
      to = Math.max(to, this.#ranges[after]!.stop);
    }
    this.#ranges.splice(first, after - first, { start: from, stop: to });
  }

  /** Whether the set has every byte of a range. */
  has(start: number, stop: number): boolean {
    if (stop <= start) return true;
    const range = this.#ranges[this.#firstEndingAt(start + 1)];
    return range !== undefined && range.start <= start && range.stop >= stop;
  }

  /** Yields the pieces of a range, in order, with whether the set has them. */
  *split(start: number, stop: number): Generator<ByteRange & { readonly has: boolean }> {
    let at = start;
    for (let index = this.#firstEndingAt(start + 1); at < stop; index++) {
      const range = this.#ranges[index];
      const next = Math.min(stop, range?.start ?? stop);
      if (at < next) yield { start: at, stop: next, has: false };
      at = Math.max(at, next);
      if (range === undefined || at >= stop) continue;
      const end = Math.min(stop, range.stop);
      yield { start: at, stop: end, has: true };
      at = end;
    }
  }

  /** Index of the first range that ends at `offset` or behind it. */
  #firstEndingAt(offset: number): number {
    let low = 0, high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ranges[middle]!.stop < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
