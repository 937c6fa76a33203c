/**
 * The error for a folder without a model: its message lists the content of the folder and gives advice.
 */
import { SafeTensorsError } from "../base/errors.ts";
import { quote } from "../base/text.ts";
import { listOf, modelsIn, namesOf, type Naming, PYTORCH, SAFETENSORS } from "./model_folder.ts";

/** Suffixes of files in other formats, with a description and advice. */
const OTHERS: readonly (readonly [suffix: RegExp, text: string])[] = [
  [
    /\.distcp$/,
    "a distributed checkpoint of PyTorch (DCP): convert it to one file with " +
    "`python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER model.pt`",
  ],
  [/\.gguf$/, "a GGUF model, another format"],
  [/\.(onnx|ort)$/, "an ONNX model, another format"],
  [/\.(h5|hdf5|keras)$/, "a Keras model, another format"],
  [/\.msgpack$/, "a Flax model, another format"],
  [/\.np[yz]$/, "NumPy arrays, another format"],
  [/\.(pb|tflite|ckpt\.index)$/, "a TensorFlow model, another format"],
  [
    /\.(part|incomplete|crdownload|aria2|download|partial)$/,
    "an incomplete download: download it again",
  ],
  [/\.(zip|tar|gz|tgz|xz|zst|bz2|7z|rar)$/, "an archive or compressed: unpack it first"],
];

/**
 * Makes the error.
 *
 * @param modelFolders returns the names of the folders in this folder that have models
 */
export async function noModel(
  folder: string,
  names: readonly string[],
  leftOut: readonly string[],
  naming: Naming,
  modelFolders: () => Promise<readonly string[]>,
): Promise<SafeTensorsError> {
  const message = `Cannot open ${quote(folder)}: no ${naming.what} is in this folder`;
  const error = (detail: string, details = {}) =>
    new SafeTensorsError("NoTensorFiles", message + detail, { path: folder, ...details });
  const family = naming === SAFETENSORS ? PYTORCH : SAFETENSORS;
  const [model] = modelsIn(names, family).models;
  if (model) {
    const name = quote(model.index ?? namesOf(model)[0]!);
    return family === PYTORCH
      ? error(`; ${name} is a PyTorch checkpoint`, {
        format: "pytorch",
        advice: "open the folder with openPyTorch",
      })
      : error(`; ${name} is a safetensors file`, {
        format: "safetensors",
        advice: "open the folder with fastsafeOpen",
      });
  }
  const folders = await modelFolders();
  if (folders.length > 0) {
    const list = listOf(folders.map(quote), 12);
    return folders.length === 1
      ? error(`; the folder ${list} in it has some: open it`)
      : error(`; the folders ${list} in it have some: open one of them`);
  }
  for (const [suffix, text] of OTHERS) {
    const name = names.find((name) => suffix.test(name.toLowerCase()));
    if (name !== undefined) return error(`; ${quote(name)} is ${text}`);
  }
  if (leftOut.length > 0) {
    return error(
      `; ${listOf(leftOut.map(quote))} are not weights by their names: name the file itself to open it`,
    );
  }
  return error("");
}
