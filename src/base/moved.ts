/**
 * Names that the main module of the package exported in version 0.1 and that are now exported by other entry points. Each
 * use throws a TypeError that names the entry point.
 */

/** Makes a replacement for the export `name` of the entry point `entry`. */
function moved(name: string, entry: string): never {
  const refuse = () => {
    throw new TypeError(`Cannot use ${name}: import it from this package's entry point "./${entry}"`);
  };
  const traps = { apply: refuse, construct: refuse, get: refuse, getPrototypeOf: refuse, ownKeys: refuse };
  return new Proxy(function () {}, traps) as never;
}

/** @deprecated Import it from the entry point "./pytorch". */
export const openPyTorch: never = moved("openPyTorch", "pytorch");
/** @deprecated Import it from the entry point "./pytorch". */
export const convertPyTorch: never = moved("convertPyTorch", "pytorch");
/** @deprecated Import it from the entry point "./ranks". */
export const MpiGroup: never = moved("MpiGroup", "ranks");
/** @deprecated Import it from the entry point "./ranks". */
export const NcclGroup: never = moved("NcclGroup", "ranks");
/** @deprecated Import it from the entry point "./ranks". */
export const SingleGroup: never = moved("SingleGroup", "ranks");
/** @deprecated Import it from the entry point "./ranks". */
export const GPT2_SHARDS: never = moved("GPT2_SHARDS", "ranks");
/** @deprecated Import it from the entry point "./ranks". */
export const LLAMA_SHARDS: never = moved("LLAMA_SHARDS", "ranks");
/** @deprecated Import it from the entry point "./ranks". */
export const MIXTRAL_SHARDS: never = moved("MIXTRAL_SHARDS", "ranks");
/** @deprecated Import it from the entry point "./compat". */
export const FilesBuffer: never = moved("FilesBuffer", "compat");
/** @deprecated Import it from the entry point "./compat". */
export const SafeTensorsFileLoader: never = moved("SafeTensorsFileLoader", "compat");
/** @deprecated Import it from the entry point "./compat". */
export const ParallelLoader: never = moved("ParallelLoader", "compat");
/** @deprecated Import it from the entry point "./3fs". */
export const createReader: never = moved("createReader", "3fs");
/** @deprecated Import it from the entry point "./3fs". */
export const extractMountPoint: never = moved("extractMountPoint", "3fs");
/** @deprecated Import it from the entry point "./3fs". */
export const getBackend: never = moved("getBackend", "3fs");
/** @deprecated Import it from the entry point "./3fs". */
export const getHf3fsLibPath: never = moved("getHf3fsLibPath", "3fs");
/** @deprecated Import it from the entry point "./3fs". */
export const isAvailable: never = moved("isAvailable", "3fs");
/** @deprecated Import it from the entry point "./doctor". */
export const doctor: never = moved("doctor", "doctor");
