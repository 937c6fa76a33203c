// `deno task build:sources` writes this file: do not edit it.
import castCastC from "../native/cast/cast.c" with { type: "text" };
import castCastH from "../native/cast/cast.h" with { type: "text" };
import castConvertH from "../native/cast/convert.h" with { type: "text" };
import castX86H from "../native/cast/x86.h" with { type: "text" };
import coreCopyC from "../native/core/copy.c" with { type: "text" };
import coreCoreH from "../native/core/core.h" with { type: "text" };
import coreDebugC from "../native/core/debug.c" with { type: "text" };
import coreEnvironmentC from "../native/core/environment.c" with { type: "text" };
import coreFileC from "../native/core/file.c" with { type: "text" };
import coreHostOpsC from "../native/core/host_ops.c" with { type: "text" };
import coreLandC from "../native/core/land.c" with { type: "text" };
import coreLandHostC from "../native/core/land_host.c" with { type: "text" };
import coreLaneC from "../native/core/lane.c" with { type: "text" };
import coreLibraryC from "../native/core/library.c" with { type: "text" };
import coreMemoryC from "../native/core/memory.c" with { type: "text" };
import coreMemoryAvailableC from "../native/core/memory_available.c" with { type: "text" };
import corePlanC from "../native/core/plan.c" with { type: "text" };
import coreQueueC from "../native/core/queue.c" with { type: "text" };
import coreReadC from "../native/core/read.c" with { type: "text" };
import coreStagingC from "../native/core/staging.c" with { type: "text" };
import coreSystemC from "../native/core/system.c" with { type: "text" };
import coreUringC from "../native/core/uring.c" with { type: "text" };
import coreWriteC from "../native/core/write.c" with { type: "text" };
import cudaContextC from "../native/cuda/context.c" with { type: "text" };
import cudaCudaH from "../native/cuda/cuda.h" with { type: "text" };
import cudaCudartC from "../native/cuda/cudart.c" with { type: "text" };
import cudaCufileC from "../native/cuda/cufile.c" with { type: "text" };
import cudaDeviceC from "../native/cuda/device.c" with { type: "text" };
import cudaDlpackC from "../native/cuda/dlpack.c" with { type: "text" };
import cudaDriverC from "../native/cuda/driver.c" with { type: "text" };
import cudaGdsC from "../native/cuda/gds.c" with { type: "text" };
import cudaKernelsC from "../native/cuda/kernels.c" with { type: "text" };
import cudaKernelsCastPtxH from "../native/cuda/kernels/cast_ptx.h" with { type: "text" };
import cudaLandC from "../native/cuda/land.c" with { type: "text" };
import cudaLoadC from "../native/cuda/load.c" with { type: "text" };
import cudaMemoryC from "../native/cuda/memory.c" with { type: "text" };
import cudaPinnedC from "../native/cuda/pinned.c" with { type: "text" };
import cudaReleaseC from "../native/cuda/release.c" with { type: "text" };
import cudaStreamC from "../native/cuda/stream.c" with { type: "text" };
import cudaTensorC from "../native/cuda/tensor.c" with { type: "text" };
import fstH from "../native/fst.h" with { type: "text" };
import fstCudaH from "../native/fst_cuda.h" with { type: "text" };
import fstGroupH from "../native/fst_group.h" with { type: "text" };
import fstNetH from "../native/fst_net.h" with { type: "text" };
import fstUsrbioH from "../native/fst_usrbio.h" with { type: "text" };
import netAnswerC from "../native/net/answer.c" with { type: "text" };
import netClientC from "../native/net/client.c" with { type: "text" };
import netCurlC from "../native/net/curl.c" with { type: "text" };
import netFetchC from "../native/net/fetch.c" with { type: "text" };
import netFileC from "../native/net/file.c" with { type: "text" };
import netLaneC from "../native/net/lane.c" with { type: "text" };
import netNetH from "../native/net/net.h" with { type: "text" };
import planH from "../native/plan.h" with { type: "text" };
import ranksMpiProcessC from "../native/ranks/mpi_process.c" with { type: "text" };
import ranksMpiThreadC from "../native/ranks/mpi_thread.c" with { type: "text" };
import ranksMpiTransferC from "../native/ranks/mpi_transfer.c" with { type: "text" };
import ranksNcclC from "../native/ranks/nccl.c" with { type: "text" };
import ranksRanksH from "../native/ranks/ranks.h" with { type: "text" };
import threeFsLaneC from "../native/three_fs/lane.c" with { type: "text" };
import threeFsLibraryC from "../native/three_fs/library.c" with { type: "text" };
import threeFsMountC from "../native/three_fs/mount.c" with { type: "text" };
import threeFsPosixC from "../native/three_fs/posix.c" with { type: "text" };
import threeFsReadC from "../native/three_fs/read.c" with { type: "text" };
import threeFsRingC from "../native/three_fs/ring.c" with { type: "text" };
import threeFsThreeFsH from "../native/three_fs/three_fs.h" with { type: "text" };

/** Path of a C source or header below native/ → its text. */
export const SOURCES: Readonly<Record<string, string>> = {
  "cast/cast.c": castCastC,
  "cast/cast.h": castCastH,
  "cast/convert.h": castConvertH,
  "cast/x86.h": castX86H,
  "core/copy.c": coreCopyC,
  "core/core.h": coreCoreH,
  "core/debug.c": coreDebugC,
  "core/environment.c": coreEnvironmentC,
  "core/file.c": coreFileC,
  "core/host_ops.c": coreHostOpsC,
  "core/land.c": coreLandC,
  "core/land_host.c": coreLandHostC,
  "core/lane.c": coreLaneC,
  "core/library.c": coreLibraryC,
  "core/memory.c": coreMemoryC,
  "core/memory_available.c": coreMemoryAvailableC,
  "core/plan.c": corePlanC,
  "core/queue.c": coreQueueC,
  "core/read.c": coreReadC,
  "core/staging.c": coreStagingC,
  "core/system.c": coreSystemC,
  "core/uring.c": coreUringC,
  "core/write.c": coreWriteC,
  "cuda/context.c": cudaContextC,
  "cuda/cuda.h": cudaCudaH,
  "cuda/cudart.c": cudaCudartC,
  "cuda/cufile.c": cudaCufileC,
  "cuda/device.c": cudaDeviceC,
  "cuda/dlpack.c": cudaDlpackC,
  "cuda/driver.c": cudaDriverC,
  "cuda/gds.c": cudaGdsC,
  "cuda/kernels.c": cudaKernelsC,
  "cuda/kernels/cast_ptx.h": cudaKernelsCastPtxH,
  "cuda/land.c": cudaLandC,
  "cuda/load.c": cudaLoadC,
  "cuda/memory.c": cudaMemoryC,
  "cuda/pinned.c": cudaPinnedC,
  "cuda/release.c": cudaReleaseC,
  "cuda/stream.c": cudaStreamC,
  "cuda/tensor.c": cudaTensorC,
  "fst.h": fstH,
  "fst_cuda.h": fstCudaH,
  "fst_group.h": fstGroupH,
  "fst_net.h": fstNetH,
  "fst_usrbio.h": fstUsrbioH,
  "net/answer.c": netAnswerC,
  "net/client.c": netClientC,
  "net/curl.c": netCurlC,
  "net/fetch.c": netFetchC,
  "net/file.c": netFileC,
  "net/lane.c": netLaneC,
  "net/net.h": netNetH,
  "plan.h": planH,
  "ranks/mpi_process.c": ranksMpiProcessC,
  "ranks/mpi_thread.c": ranksMpiThreadC,
  "ranks/mpi_transfer.c": ranksMpiTransferC,
  "ranks/nccl.c": ranksNcclC,
  "ranks/ranks.h": ranksRanksH,
  "three_fs/lane.c": threeFsLaneC,
  "three_fs/library.c": threeFsLibraryC,
  "three_fs/mount.c": threeFsMountC,
  "three_fs/posix.c": threeFsPosixC,
  "three_fs/read.c": threeFsReadC,
  "three_fs/ring.c": threeFsRingC,
  "three_fs/three_fs.h": threeFsThreeFsH,
};
