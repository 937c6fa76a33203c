// `deno task build:sources` writes this file: do not edit it.
import castC from "../native/cast.c" with { type: "text" };
import castH from "../native/cast.h" with { type: "text" };
import castX86H from "../native/cast_x86.h" with { type: "text" };
import copyC from "../native/copy.c" with { type: "text" };
import copyH from "../native/copy.h" with { type: "text" };
import cudaC from "../native/cuda.c" with { type: "text" };
import cudaH from "../native/cuda.h" with { type: "text" };
import cudaDriverC from "../native/cuda_driver.c" with { type: "text" };
import cudaDriverH from "../native/cuda_driver.h" with { type: "text" };
import cudaKernelsC from "../native/cuda_kernels.c" with { type: "text" };
import cudaLoadC from "../native/cuda_load.c" with { type: "text" };
import cudaLoadH from "../native/cuda_load.h" with { type: "text" };
import cudaMemoryC from "../native/cuda_memory.c" with { type: "text" };
import cudaReleaseC from "../native/cuda_release.c" with { type: "text" };
import cudaTensorC from "../native/cuda_tensor.c" with { type: "text" };
import cudartC from "../native/cudart.c" with { type: "text" };
import cudartH from "../native/cudart.h" with { type: "text" };
import cufileC from "../native/cufile.c" with { type: "text" };
import cufileH from "../native/cufile.h" with { type: "text" };
import debugC from "../native/debug.c" with { type: "text" };
import debugH from "../native/debug.h" with { type: "text" };
import dlpackC from "../native/dlpack.c" with { type: "text" };
import dlpackH from "../native/dlpack.h" with { type: "text" };
import dtypeH from "../native/dtype.h" with { type: "text" };
import environmentC from "../native/environment.c" with { type: "text" };
import environmentH from "../native/environment.h" with { type: "text" };
import exportH from "../native/export.h" with { type: "text" };
import faultsC from "../native/faults.c" with { type: "text" };
import faultsH from "../native/faults.h" with { type: "text" };
import fileC from "../native/file.c" with { type: "text" };
import fstH from "../native/fst.h" with { type: "text" };
import fstCudaH from "../native/fst_cuda.h" with { type: "text" };
import fstGroupH from "../native/fst_group.h" with { type: "text" };
import fstHostH from "../native/fst_host.h" with { type: "text" };
import fstUsrbioH from "../native/fst_usrbio.h" with { type: "text" };
import fstWriteH from "../native/fst_write.h" with { type: "text" };
import gdsC from "../native/gds.c" with { type: "text" };
import gdsH from "../native/gds.h" with { type: "text" };
import glibc217H from "../native/glibc_2_17.h" with { type: "text" };
import hostOpsC from "../native/host_ops.c" with { type: "text" };
import kernelsCastPtxH from "../native/kernels/cast_ptx.h" with { type: "text" };
import kernelsConvertH from "../native/kernels/convert.h" with { type: "text" };
import landC from "../native/land.c" with { type: "text" };
import landH from "../native/land.h" with { type: "text" };
import landCudaC from "../native/land_cuda.c" with { type: "text" };
import landCudaH from "../native/land_cuda.h" with { type: "text" };
import landHostC from "../native/land_host.c" with { type: "text" };
import laneC from "../native/lane.c" with { type: "text" };
import laneH from "../native/lane.h" with { type: "text" };
import libraryC from "../native/library.c" with { type: "text" };
import libraryH from "../native/library.h" with { type: "text" };
import memoryC from "../native/memory.c" with { type: "text" };
import memoryH from "../native/memory.h" with { type: "text" };
import memoryAvailableC from "../native/memory_available.c" with { type: "text" };
import mpiH from "../native/mpi.h" with { type: "text" };
import mpiCallC from "../native/mpi_call.c" with { type: "text" };
import mpiLibraryC from "../native/mpi_library.c" with { type: "text" };
import mpiMeetC from "../native/mpi_meet.c" with { type: "text" };
import mpiMessageC from "../native/mpi_message.c" with { type: "text" };
import mpiProcessC from "../native/mpi_process.c" with { type: "text" };
import mpiThreadC from "../native/mpi_thread.c" with { type: "text" };
import mpiTransferC from "../native/mpi_transfer.c" with { type: "text" };
import ncclC from "../native/nccl.c" with { type: "text" };
import planC from "../native/plan.c" with { type: "text" };
import planH from "../native/plan.h" with { type: "text" };
import readC from "../native/read.c" with { type: "text" };
import readUsrbioC from "../native/read_usrbio.c" with { type: "text" };
import usrbioH from "../native/usrbio.h" with { type: "text" };
import usrbioLibraryC from "../native/usrbio_library.c" with { type: "text" };
import usrbioMountC from "../native/usrbio_mount.c" with { type: "text" };
import usrbioPosixC from "../native/usrbio_posix.c" with { type: "text" };
import usrbioReadC from "../native/usrbio_read.c" with { type: "text" };
import usrbioRingC from "../native/usrbio_ring.c" with { type: "text" };
import writeC from "../native/write.c" with { type: "text" };

/** Path of a C source or header below native/ → its text. */
export const SOURCES: Readonly<Record<string, string>> = {
  "cast.c": castC,
  "cast.h": castH,
  "cast_x86.h": castX86H,
  "copy.c": copyC,
  "copy.h": copyH,
  "cuda.c": cudaC,
  "cuda.h": cudaH,
  "cuda_driver.c": cudaDriverC,
  "cuda_driver.h": cudaDriverH,
  "cuda_kernels.c": cudaKernelsC,
  "cuda_load.c": cudaLoadC,
  "cuda_load.h": cudaLoadH,
  "cuda_memory.c": cudaMemoryC,
  "cuda_release.c": cudaReleaseC,
  "cuda_tensor.c": cudaTensorC,
  "cudart.c": cudartC,
  "cudart.h": cudartH,
  "cufile.c": cufileC,
  "cufile.h": cufileH,
  "debug.c": debugC,
  "debug.h": debugH,
  "dlpack.c": dlpackC,
  "dlpack.h": dlpackH,
  "dtype.h": dtypeH,
  "environment.c": environmentC,
  "environment.h": environmentH,
  "export.h": exportH,
  "faults.c": faultsC,
  "faults.h": faultsH,
  "file.c": fileC,
  "fst.h": fstH,
  "fst_cuda.h": fstCudaH,
  "fst_group.h": fstGroupH,
  "fst_host.h": fstHostH,
  "fst_usrbio.h": fstUsrbioH,
  "fst_write.h": fstWriteH,
  "gds.c": gdsC,
  "gds.h": gdsH,
  "glibc_2_17.h": glibc217H,
  "host_ops.c": hostOpsC,
  "kernels/cast_ptx.h": kernelsCastPtxH,
  "kernels/convert.h": kernelsConvertH,
  "land.c": landC,
  "land.h": landH,
  "land_cuda.c": landCudaC,
  "land_cuda.h": landCudaH,
  "land_host.c": landHostC,
  "lane.c": laneC,
  "lane.h": laneH,
  "library.c": libraryC,
  "library.h": libraryH,
  "memory.c": memoryC,
  "memory.h": memoryH,
  "memory_available.c": memoryAvailableC,
  "mpi.h": mpiH,
  "mpi_call.c": mpiCallC,
  "mpi_library.c": mpiLibraryC,
  "mpi_meet.c": mpiMeetC,
  "mpi_message.c": mpiMessageC,
  "mpi_process.c": mpiProcessC,
  "mpi_thread.c": mpiThreadC,
  "mpi_transfer.c": mpiTransferC,
  "nccl.c": ncclC,
  "plan.c": planC,
  "plan.h": planH,
  "read.c": readC,
  "read_usrbio.c": readUsrbioC,
  "usrbio.h": usrbioH,
  "usrbio_library.c": usrbioLibraryC,
  "usrbio_mount.c": usrbioMountC,
  "usrbio_posix.c": usrbioPosixC,
  "usrbio_read.c": usrbioReadC,
  "usrbio_ring.c": usrbioRingC,
  "write.c": writeC,
};
