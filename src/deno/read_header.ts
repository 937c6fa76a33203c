/**
 * Reads the header of a file without its tensors.
 */
import type { PathLike } from "../files/inputs.ts";
import { workingFolder } from "../files/native/working_folder.ts";
import { type FileContent, headerOf, isBlobOrResponse } from "../files/bytes.ts";
import { handled } from "../base/handled.ts";
import type { Header } from "../format/header.ts";

/**
 * Reads and checks the header of a file; reads no tensor data.
 *
 * @param file a path or a URL; or the bytes of a file, a Blob, or a Response, of which no more is read than the
 *   header needs if the size of the file is known
 * @throws {TypeError} if `file` is none of these
 * @throws {SafeTensorsError} if the header is not valid
 * @throws {ReadError} if the file cannot be opened or read, or the response is not successful
 */
export function readHeader(file: PathLike | FileContent): Promise<Header> {
  const isContent = isBlobOrResponse(file) || typeof file === "object" && !(file instanceof URL);
  return handled(isContent ? headerOf("Cannot read a header", file) : headerAt(file));
}

async function remoteHeader(path: string): Promise<Header> {
  const [{ checkFiles }, { readFileHeader }, { openRemote }, { checkNetwork }] = await Promise.all([
    import("../files/inputs.ts"),
    import("../files/catalog.ts"),
    import("./remote.ts"),
    import("../files/network_options.ts"),
  ]);
  const paths = checkFiles(path, { size: 1 });
  using remote = await openRemote(paths, { network: checkNetwork(), cache: { fill: false } });
  const file = await remote.source.open(path);
  try {
    return await readFileHeader(file);
  } finally {
    await file.close();
  }
}

async function headerAt(path: PathLike): Promise<Header> {
  const folder = workingFolder(); // before the first await: the program can change the folder
  const [{ isUrl, toPath }, { readFileHeader }, { selectEngine }] = await Promise.all([
    import("../files/inputs.ts"),
    import("../files/catalog.ts"),
    import("../load/native/select.ts"),
  ]);
  const named = toPath(path);
  if (isUrl(named)) return await remoteHeader(named);
  const { source } = await selectEngine();
  const file = await source.open(named, folder);
  try {
    return await readFileHeader(file);
  } finally {
    await file.close();
  }
}
