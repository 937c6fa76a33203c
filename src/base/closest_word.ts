/**
 * Suggestions for misspelled words in messages.
 */

/** Most wrong letters of a word for which {@linkcode closestWord} returns a suggestion. */
const MOST_WRONG = 2;

/** Most words that are compared: models can have 100,000 names, and the comparison blocks the event loop. */
const MOST_COMPARED = 20_000;

/** Most letters of a word that is compared: the time grows with the square of the length. */
const LONGEST = 1000;

/** Returns the nearest of the known words, if at most two letters differ. Compares only the first words of a long list. */
export function closestWord(word: string, known: Iterable<string>): string | undefined {
  let nearest: { candidate: string; distance: number } | undefined;
  let compared = 0;
  for (const candidate of known) {
    if (++compared > MOST_COMPARED) break;
    const distance = editDistance(word, candidate);
    if (distance > MOST_WRONG || distance >= candidate.length - 1) continue;
    if (!nearest || distance < nearest.distance) nearest = { candidate, distance };
  }
  return nearest?.candidate;
}

/**
 * Returns the number of inserted, deleted or replaced letters between two words; some number above
 * {@linkcode MOST_WRONG} if it is more. Removes the common beginning and end first, because names of a model differ
 * in few letters.
 */
function editDistance(from: string, to: string): number {
  let start = 0, end = 0;
  const shorter = Math.min(from.length, to.length);
  if (shorter > LONGEST || Math.abs(from.length - to.length) > MOST_WRONG) return Infinity;
  while (start < shorter && from[start] === to[start]) start++;
  while (end < shorter - start && from.at(-1 - end) === to.at(-1 - end)) end++;
  const a = from.slice(start, from.length - end), b = to.slice(start, to.length - end);
  // row[n]: distance from the processed letters of `a` to the first n letters of `b`
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let index = 0; index < a.length && Math.min(...row) <= MOST_WRONG; index++) {
    const next = [index + 1];
    for (let n = 1; n < row.length; n++) {
      const replaced = row[n - 1]! + (a[index] === b[n - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[n]! + 1, next[n - 1]! + 1));
    }
    row = next;
  }
  return row.at(-1)!;
}
