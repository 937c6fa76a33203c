/**
 * Labels of URLs: what messages, statistics and the catalog show instead of a URL that can carry secrets.
 */

/** Parameters whose values are shown: names and versions of files. Others can be signatures or tokens. */
const SHOWN = /^(?:download|dl|file|filename|id|name|path|raw|ref|revision|version|versionid)$/i;

/** Returns a URL without user, fragment and the values of parameters that can be secret. */
export function labelOf(url: string | URL): string {
  const { protocol, host, pathname, searchParams, search } = new URL(url);
  const shown = [...searchParams].map(([name, value]) => {
    return `${encodeURIComponent(name)}=${SHOWN.test(name) ? encodeURIComponent(value) : "…"}`;
  });
  // A query without "=" can be a token.
  const query = search === "" ? "" : search.includes("=") ? `?${shown.join("&")}` : "?…";
  return `${protocol}//${host}${pathname}${query}`;
}

/** Returns the scheme, host and port of a URL. */
export function originOf(url: string): string {
  return new URL(url).origin;
}

/** Labels for values that are the same label for the same value only. */
export class Labels<T> {
  readonly #byLabel = new Map<string, { readonly key: string; readonly value: T }>();

  /**
   * Returns the label of a value, with a number if another key has the same label.
   *
   * @param key identifies the value
   */
  add(label: string, key: string, value: T): string {
    for (let number = 1;; number++) {
      const numbered = number === 1 ? label : `${label}#${number}`;
      const other = this.#byLabel.get(numbered);
      if (other && other.key !== key) continue;
      if (!other) this.#byLabel.set(numbered, { key, value });
      return numbered;
    }
  }

  /** Returns the value of a label. */
  get(label: string): T | undefined {
    return this.#byLabel.get(label)?.value;
  }
}
