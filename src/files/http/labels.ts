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

/** Gives each URL a label that no other one has. */
export class Labels {
  readonly #urls = new Map<string, string>();

  /** Returns the label of a URL: with a number, if another URL has the same one. */
  of(url: string): string {
    const label = labelOf(url);
    for (let number = 1;; number++) {
      const numbered = number === 1 ? label : `${label}#${number}`;
      const other = this.#urls.get(numbered);
      if (other !== undefined && other !== url) continue;
      this.#urls.set(numbered, url);
      return numbered;
    }
  }
}
