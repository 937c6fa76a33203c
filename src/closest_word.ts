/**
 * Words for messages.
 */

/** The word that was probably meant: the nearest of the known ones, if no more than two letters are wrong. */
export function closestWord(word: string, known: readonly string[]): string | undefined {
  const near = known.map((candidate) => ({ candidate, distance: editDistance(word, candidate) }))
    .filter(({ candidate, distance }) => distance <= 2 && distance < candidate.length - 1);
  return near.sort((a, b) => a.distance - b.distance)[0]?.candidate;
}

/** How many letters must be put in, taken out or replaced to make one word of the other. */
function editDistance(from: string, to: string): number {
  // row[n]: from what has been read of `from` to the first n letters of `to`
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (const [index, letter] of [...from].entries()) {
    const next = [index + 1];
    for (let n = 1; n < row.length; n++) {
      const replaced = row[n - 1]! + (letter === to[n - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[n]! + 1, next[n - 1]! + 1));
    }
    row = next;
  }
  return row.at(-1)!;
}
