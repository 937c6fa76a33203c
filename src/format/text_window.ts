/** Many short texts out of one long run of UTF-8, at the cost of few native calls. */

/** Bytes decoded at a time: hundreds of names. */
const WINDOW_BYTES = 1 << 16;

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/**
 * Decodes parts of a byte array, meant for parts that come one after the other.
 *
 * A window of the bytes is decoded at once and the texts are cut from it. Where all of it is ASCII, a position in the
 * bytes is a position in the text; else characters are counted on from the last cut.
 */
export class TextWindow {
  readonly #bytes: Uint8Array;
  #text = "";
  #start = 0;
  #end = 0;
  /** A position in the window, at the start of a character, and that character's index in the text. */
  #cursor = 0;
  #cursorIndex = 0;

  /** Makes no window yet; `bytes` are valid UTF-8 and are not copied. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** The text of the bytes from `start` to `end`, which cut no character. */
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

  /** Where in the window's text the character begins whose first byte is at `position`. */
  #index(position: number): number {
    // As many characters as bytes: each is ASCII (or the last, cut by the window's end, and so in no text of it).
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
