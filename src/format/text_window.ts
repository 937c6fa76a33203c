/**
 * Decodes many short texts from one long UTF-8 array, with few native calls.
 */

/** Bytes decoded at a time: hundreds of names. */
const WINDOW_BYTES = 1 << 16;

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/**
 * Decodes parts of a byte array, fast for successive parts.
 *
 * A window of the bytes is decoded at once and the texts are cut from it. In a window of ASCII, a position in the bytes
 * is a position in the text; otherwise it counts characters from the last cut.
 */
export class TextWindow {
  readonly #bytes: Uint8Array;
  #text = "";
  #start = 0;
  #end = 0;
  /** A position in the window, at the start of a character, and that character's index in the text. */
  #cursor = 0;
  #cursorIndex = 0;

  /** Starts without a window; `bytes` are valid UTF-8 and are not copied. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** The text of the bytes from `start` to `end`; both are boundaries of characters. */
  text(start: number, end: number): string {
    if (end - start > WINDOW_BYTES) return decoder.decode(this.#bytes.subarray(start, end));
    if (start < this.#start || end > this.#end) this.#move(start);
    const from = this.#index(start);
    return this.#text.substring(from, this.#index(end));
  }

  #move(start: number): void {
    const bytes = this.#bytes.subarray(start, start + WINDOW_BYTES);
    this.#text = decoder.decode(bytes);
    this.#start = start;
    this.#end = start + bytes.length;
    this.#cursor = start;
    this.#cursorIndex = 0;
  }

  /** The index in the window's text of the character whose first byte is at `position`. */
  #index(position: number): number {
    // As many characters as bytes: each is ASCII, except perhaps the last one, if the window's end cuts it; texts do
    // not include that one.
    if (this.#text.length === this.#end - this.#start) return position - this.#start;
    const bytes = this.#bytes;
    const back = position < this.#cursor;
    let index = back ? 0 : this.#cursorIndex;
    for (let i = back ? this.#start : this.#cursor; i < position; i++) {
      const byte = bytes[i]!;
      if ((byte & 0xc0) !== 0x80) index += byte < 0xf0 ? 1 : 2;
    }
    this.#cursor = position;
    this.#cursorIndex = index;
    return index;
  }
}
