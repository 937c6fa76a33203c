/**
 * The environment variables of the shim. They are read here, where no other thread of the process can change them at the
 * same time, and passed to the shim, which does not read the environment itself.
 */
import { environmentVariable } from "./variables.ts";
import type { Shim } from "./symbols.ts";

/** The names that native/ reads by fst_environment. */
export const SHIM_VARIABLES: readonly string[] = [
  "ALL_PROXY",
  "AWS_CA_BUNDLE",
  "CONDA_PREFIX",
  "CUDA_HOME",
  "CUDA_PATH",
  "CUFILE_FORCE_COMPAT_MODE",
  "CUFILE_LOGFILE_PATH",
  "CURL_CA_BUNDLE",
  "DENO_CERT",
  "FASTSAFETENSORS_CUDART_LIB",
  "FASTSAFETENSORS_CUDA_LIB",
  "FASTSAFETENSORS_CUFILE_LIB",
  "FASTSAFETENSORS_CURL_LIB",
  "FASTSAFETENSORS_MPI_LIB",
  "FASTSAFETENSORS_NCCL_LIB",
  "FASTSAFETENSORS_NVFS_PROC",
  "HF3FS_LIB_DIR",
  "HOME",
  "HTTPS_PROXY",
  "HTTP_PROXY",
  "LD_LIBRARY_PATH",
  "NO_PROXY",
  "REQUESTS_CA_BUNDLE",
  "SSL_CERT_DIR",
  "SSL_CERT_FILE",
  "VIRTUAL_ENV",
  "all_proxy",
  "http_proxy",
  "https_proxy",
  "no_proxy",
];

/**
 * Reads the variables and passes them to the shim: when it is opened, and again before the search for a library, so that
 * changes by the program have an effect. A variable without read permission counts as not set.
 *
 * @throws {Error} if there is not enough memory
 */
export function passEnvironment(shim: Shim): void {
  const strings = SHIM_VARIABLES.flatMap((name) => {
    const value = environmentVariable(name);
    return value === undefined ? [] : [`${name}=${value}\0`];
  });
  const bytes = new TextEncoder().encode(strings.join(""));
  if (shim.fst_environment_set(bytes, BigInt(bytes.byteLength)) !== 0) {
    throw new Error("Cannot pass environment variables to the native library: there is not enough memory");
  }
}
