/**
 * Reads the header of a file without its tensors.
 */
import { type PathLike, toPath } from "../files/inputs.ts";
import { workingFolder } from "../files/native/working_folder.ts";
import type { Header } from "../format/header.ts";

/**
 * Reads and checks the header of a file; reads no tensor data.
 *
 * @param path a path or a `file:` URL
 * @throws {TypeError} if `path` is neither
 * @throws {SafeTensorsError} if the header is not valid
 * @throws {ReadError} if the file cannot be opened or read
 */
export async function readHeader(path: PathLike): Promise<Header> {
  const local = toPath(path);
  const folder = workingFolder(); // before the first await: the program can change the folder
  const [{ readFileHeader }, { selectEngine }] = await Promise.all([
    import("../files/catalog.ts"),
    import("../load/native/select.ts"),
  ]);
  const { source } = await selectEngine();
  const file = await source.open(local, folder);
  try {
    return await readFileHeader(file);
  } finally {
    await file.close();
  }
}
