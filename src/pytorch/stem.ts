/** The names of checkpoint files. */

/**
 * The name of a file without its folder and without what says that it is a checkpoint: "model" for `model.pt`,
 * `model.ckpt` and `model.pth.tar`. Any suffix that begins with a letter counts, which the 5 of "model-1.5" does not.
 */
export function fileStem(path: string): string {
  const name = path.replace(/\/+$/, "").replace(/^.*\//s, "");
  const stem = name.replace(/\.tar$/i, "").replace(/\.[a-z]\w{0,15}$/i, "");
  // A file that is named ".pt" is still named that.
  return stem || name;
}
