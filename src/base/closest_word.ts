/**
 * Words for messages.
 */

/** Letters that may be wrong in a word that {@linkcode closestWord} still understands. */
const MOST_WRONG = 2;

/** Words that are compared at most: models have 100,000 names, and the event loop waits. */
const MOST_COMPARED = 20_000;

/** Words longer than this are not compared: that takes the square of their length. */
const LONGEST = 1000;

/** The word that was probably meant: the nearest of the known ones, if no more than two letters are wrong. Of very many words only the first are compared. */
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
 * How many letters must be put in, taken out or replaced to make one word of the other; any number above
 * {@linkcode MOST_WRONG} where it is more. What both begin and end with is left out first, as the names of
 * a model differ in little.
 */
function editDistance(from: string, to: string): number {
  let start = 0, end = 0;
  const shorter = Math.min(from.length, to.length);
  if (shorter > LONGEST || Math.abs(from.length - to.length) > MOST_WRONG) return Infinity;
  while (start < shorter && from[start] === to[start]) start++;
  while (end < shorter - start && from.at(-1 - end) === to.at(-1 - end)) end++;
  const a = from.slice(start, from.length - end), b = to.slice(start, to.length - end);
  // row[n]: from what has been read of `a` to the first n letters of `b`
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
