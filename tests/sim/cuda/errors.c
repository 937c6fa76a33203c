/* Names and texts of error codes. Every text says that it comes from a stand-in. */
#include "internal.h"

#define STAND_IN " (fastsafetensors CUDA stand-in)"

static const struct {
  int code;
  const char *runtime, *driver, *text;
} errors[] = {
    {0, "cudaSuccess", "CUDA_SUCCESS", "no error" STAND_IN},
    {1, "cudaErrorInvalidValue", "CUDA_ERROR_INVALID_VALUE", "invalid argument" STAND_IN},
    {2, "cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY", "out of memory" STAND_IN},
    {3, "cudaErrorInitializationError", "CUDA_ERROR_NOT_INITIALIZED", "initialization error" STAND_IN},
    {21, "cudaErrorInvalidMemcpyDirection", "", "invalid copy direction for memcpy" STAND_IN},
    {35, "cudaErrorInsufficientDriver", "", "CUDA driver version is insufficient for the runtime" STAND_IN},
    {46, "cudaErrorDevicesUnavailable", "CUDA_ERROR_DEVICE_UNAVAILABLE", "device is busy or unavailable" STAND_IN},
    {100, "cudaErrorNoDevice", "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected" STAND_IN},
    {101, "cudaErrorInvalidDevice", "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal" STAND_IN},
    {200, "cudaErrorInvalidKernelImage", "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid" STAND_IN},
    {201, "cudaErrorDeviceUninitialized", "CUDA_ERROR_INVALID_CONTEXT", "invalid device context" STAND_IN},
    {209, "cudaErrorNoKernelImageForDevice", "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image for the device" STAND_IN},
    {214, "cudaErrorECCUncorrectable", "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error" STAND_IN},
    {218, "cudaErrorInvalidPtx", "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed" STAND_IN},
    {222, "cudaErrorUnsupportedPtxVersion", "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
     "the PTX was compiled with an unsupported toolchain" STAND_IN},
    {400, "cudaErrorInvalidResourceHandle", "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle" STAND_IN},
    {500, "cudaErrorSymbolNotFound", "CUDA_ERROR_NOT_FOUND", "named symbol not found" STAND_IN},
    {600, "cudaErrorNotReady", "CUDA_ERROR_NOT_READY", "device not ready" STAND_IN},
    {700, "cudaErrorIllegalAddress", "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access happened" STAND_IN},
    {701, "cudaErrorLaunchOutOfResources", "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources asked" STAND_IN},
    {702, "cudaErrorLaunchTimeout", "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out" STAND_IN},
    {712, "cudaErrorHostMemoryAlreadyRegistered", "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED",
     "part or all of the host memory is already registered" STAND_IN},
    {713, "cudaErrorHostMemoryNotRegistered", "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED",
     "host memory is not registered" STAND_IN},
    {716, "cudaErrorMisalignedAddress", "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address" STAND_IN},
    {719, "cudaErrorLaunchFailure", "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure" STAND_IN},
    {801, "cudaErrorNotSupported", "CUDA_ERROR_NOT_SUPPORTED", "operation not supported" STAND_IN},
    {999, "cudaErrorUnknown", "CUDA_ERROR_UNKNOWN", "unknown error" STAND_IN},
};

static const char *text_of(int code) {
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
    if (errors[i].code == code) return errors[i].text;
  }
  return NULL;
}

static const char *name_of(int code, bool driver) {
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
    const char *name = driver ? errors[i].driver : errors[i].runtime;
    if (errors[i].code == code && *name) return name;
  }
  return NULL;
}

bool sim_costs_context(int code) {
  return code == 214 || code == 220 || code == SIM_ILLEGAL_ADDRESS || code == 702 || (code >= 714 && code <= 719);
}

SIM_EXPORT const char *cudaGetErrorString(int code) {
  const char *text = text_of(code);
  return text ? text : "unrecognized error code" STAND_IN;
}

SIM_EXPORT const char *cudaGetErrorName(int code) {
  const char *name = name_of(code, false);
  return name ? name : "unrecognized error code";
}

SIM_EXPORT int cuGetErrorString(int code, const char **text) {
  *text = text_of(code);
  return *text ? 0 : SIM_INVALID_VALUE;
}

SIM_EXPORT int cuGetErrorName(int code, const char **name) {
  *name = name_of(code, true);
  return *name ? 0 : SIM_INVALID_VALUE;
}
