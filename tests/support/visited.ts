/**
 * Work counted in elements that are visited, which no other process can make longer.
 */

/** Counts the elements of arrays that loops and spreads visit. */
export class VisitedElements implements Disposable {
  count = 0;
  readonly #iterator = Object.getPrototypeOf([][Symbol.iterator]());
  readonly #next = this.#iterator.next;

  constructor() {
    const next = this.#next;
    // deno-lint-ignore no-this-alias
    const counter = this;
    this.#iterator.next = function () {
      counter.count++;
      return next.call(this);
    };
  }

  [Symbol.dispose]() {
    this.#iterator.next = this.#next;
  }
}
