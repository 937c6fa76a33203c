/**
 * Headers by themselves.
 */
import { readFileHeader } from "../files/catalog.ts";
import { type PathLike, toPath } from "../files/inputs.ts";
import { workingFolder } from "../files/native/local_path.ts";
import type { Header } from "../format/header.ts";
import { selectEngine } from "../load/native/select.ts";

/**
 * Reads and checks the header of a file; none of its tensors.
 *
 * @param path a path or a `file:` URL
 * @throws {TypeError} if it is neither
 * @throws {SafeTensorsError} if the header is bad
 * @throws {ReadError} if the file cannot be opened or read
 */
export async function readHeader(path: PathLike): Promise<Header> {
  const local = toPath(path);
  const folder = workingFolder(); // before anything is waited for
  const { source } = await selectEngine();
  const file = await source.open(local, folder);
  try {
    return await readFileHeader(file);
  } finally {
    await file.close();
  }
}
