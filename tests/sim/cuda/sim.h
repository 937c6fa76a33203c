/*
 * Stand-ins for libcudart, libcuda and libcufile: one library, libfst_sim_cuda.so, that carries all three interfaces.
 * It is not a GPU. It keeps "device" memory in host memory and does what CUDA does, in CUDA's order, on other threads
 * and late, so that what a program got away with by luck comes out as wrong bytes, an error or a recorded violation.
 *
 *   FASTSAFETENSORS_CUDART_LIB, FASTSAFETENSORS_CUDA_LIB, FASTSAFETENSORS_CUFILE_LIB = .../libfst_sim_cuda.so
 *
 * What it does, and where it is stricter than CUDA
 *   - A device pointer lies in a range that no access is allowed to: a host dereference faults.
 *   - Fresh device and pinned memory holds 0xDB. Freed addresses are never given out again; freed pinned memory faults.
 *   - Small allocations are aligned to 512 bytes and no more; those of 1 MiB and above to 2 MiB.
 *   - Each stream is a thread that waits a random time before every operation. The source of a host-to-device copy is
 *     summed at the call and again when the copy runs; the target of a device-to-host copy holds 0xDB until then.
 *   - Enqueuing needs the stream's device to be the thread's current one; querying, waiting and destroying do not.
 *   - A failed stream stays failed. Codes that cost a real process its context (700, 719, ...) also fail every later
 *     call on that device until fst_sim_reset(); releasing calls then still release.
 *   - cudaSetDevice alone binds no driver context to a thread, as before CUDA 12: make a runtime call after it. As
 *     since CUDA 12, it creates one all the same, which stays.
 *   - Threads have a stack of contexts. A runtime call while a context of the program itself is on top is noticed.
 *   - A call after the library's own handler at the end of the process aborts it.
 *   - Waits that use a whole core meanwhile are counted: cudaStreamSynchronize, and cudaEventSynchronize of an event
 *     without cudaEventBlockingSync.
 *
 * Environment, read when the library is loaded and again by fst_sim_reset()
 *   FST_SIM_DEVICES=2             devices; 0: none (error 100)
 *   FST_SIM_DRIVER=old            the driver is too old (error 35)
 *   FST_SIM_VERSION=12040         CUDA version of runtime and driver; bounds the PTX version. A copy of this library
 *                                 that is named libcudart.so.N has the runtime N.0: error 35 if the driver is older
 *   FST_SIM_CAPABILITY=80         compute capability; bounds the PTX target
 *   FST_SIM_DEVICE_BYTES=2147483648   memory of each device, at most 64 GiB
 *   FST_SIM_POOLS=1               0: no cudaMallocAsync (attribute 115 is 0, error 801)
 *   FST_SIM_PEER=1                0: cudaDeviceCanAccessPeer says no
 *   FST_SIM_DELAY_US=50           longest random delay before an operation, microseconds; 0: none
 *   FST_SIM_UNLOAD_US=0           microseconds that the end of the process takes after the library is unloaded
 *   FST_SIM_COPY_GBPS=0           GB/s of the link, per device and direction; 0: as fast as it goes
 *   FST_SIM_SEED=1                of the delays
 *   FST_SIM_CHECKS=1              0: no 0xDB fills and no sums, for measuring
 *   FST_SIM_FAIL=                 injected failures, see fst_sim_fail()
 *   FST_SIM_KERNELS=              library with the kernels' host build, see below
 *   FST_SIM_GDS=real              real, if the file FASTSAFETENSORS_NVFS_PROC is there or PCI P2PDMA is set, else as
 *                                 compat: cuFile reads, then copies; absent: cuFileDriverOpen gives 5033
 *   FST_SIM_CUFILE_TAKEN=no       compatible, strict: another library of the process has opened the driver (5026), with
 *                                 or without compatibility mode
 *   FST_SIM_CUFILE_STDIN=stays    closed: cuFileDriverOpen closes descriptor 0, as some versions do; taken: and another
 *                                 file gets that number at once
 *   FST_SIM_CUFILE_STRICT=0       1: cuFileHandleRegister wants a descriptor opened with O_DIRECT (5020)
 *   FST_SIM_CUFILE_ERRNO=0        1: cuFileRead puts its codes into errno and gives -1, as some versions do
 *   FST_SIM_CUFILE_WINDOW_BYTES=16777216     longest cuFileBufRegister (5016)
 *   FST_SIM_CUFILE_PINNED_BYTES=1073741824   all of them together (5016)
 *   FST_SIM_MODEL=                a file: a model of costs, see model.c; moves no bytes
 *   FST_SIM_MODEL_SLOWER=64       its time runs so many times slower than the machine's
 *   FST_SIM_REPORT=               file that gets one line of JSON when the process ends
 *   FST_SIM_VERBOSE=0             1: violations to stderr as they happen
 *
 * Kernels
 *   The library named by FST_SIM_KERNELS exports, for each kernel NAME that the PTX declares as `.visible .entry`:
 *     const char fst_sig_NAME[]     one letter a parameter: P device pointer, Q 64-bit integer, I 32-bit integer
 *     void fst_host_NAME(void **parameters, unsigned grid_x, unsigned block_x)
 *   `parameters` is as for cuLaunchKernel, with every P replaced by the address of the device memory's bytes.
 *   libfst_sim_kernels.so, from kernels.cc, has those of native/cuda/kernels/cast.cu.
 *   The letters are checked against the parameters in the PTX. Only one-dimensional launches are known.
 */
#ifndef FST_SIM_H
#define FST_SIM_H

#include <stddef.h>
#include <stdint.h>

/* Names what this is: "fastsafetensors CUDA stand-in". Static. */
const char *fst_sim_name(void);

/*
 * Writes the report, one JSON object and its NUL, into `size` bytes at `buffer`; gives the length it has without the
 * NUL, which is `size` or more if it did not fit. Keys: live, leaks, peak, copied, counts, violations.
 */
int fst_sim_report(char *buffer, size_t size);

/*
 * How many violations there were since the start or fst_sim_reset(); of one kind. The kinds are
 *   bad-context, bad-cufile-buffer, bad-cufile-handle, bad-event, bad-free, bad-function, bad-launch, bad-module, bad-ptx,
 *   bad-register, bad-stream, bad-unpin, context-in-use, cufile-close-live, cufile-fd-closed, cufile-not-open, cufile-parameter-late,
 *   double-free, double-register, foreign-context, free-registered, freed-in-use, kernel-signature, no-context, no-host-build,
 *   no-init, not-a-device-pointer, not-a-host-pointer, out-of-bounds, outside-cufile-window, overlap, overrun,
 *   pageable-async, partly-pinned, source-changed, unmapped-while-registered, unpin-in-flight, use-after-free,
 *   used-before-allocated, wrong-device.
 */
uint64_t fst_sim_violations(void);
uint64_t fst_sim_violations_of(const char *kind);

/* What is held now. Device memory of one device, or of all for -1. */
uint64_t fst_sim_live_allocations(void);
uint64_t fst_sim_live_device_bytes(int device);
uint64_t fst_sim_live_pinned(void);     /* cudaHostAlloc */
uint64_t fst_sim_live_registered(void); /* cudaHostRegister */
uint64_t fst_sim_live_streams(void);
uint64_t fst_sim_live_events(void);
uint64_t fst_sim_live_modules(void);
uint64_t fst_sim_live_cufile_handles(void);
uint64_t fst_sim_live_cufile_buffers(void);
uint64_t fst_sim_live_cufile_driver(void); /* opened and not closed */
uint64_t fst_sim_live_contexts(void);      /* not in the total: those of devices in use stay */
uint64_t fst_sim_live_total(void);         /* objects of every sort together: 0 when nothing leaked */

/*
 * Replaces the injected failures by "FUNCTION:NTH:CODE,..." and counts calls from 1 again; NULL or "" takes them away.
 * NTH is a number, a number and "+" for that call and all later ones, or "*". The call does nothing and gives CODE.
 *   FUNCTION   any function that gives an error code, or "stream-copy", "stream-fill", "stream-kernel": the operation
 *              fails when it runs, and the stream with it; the next synchronise or query of the stream or of an event
 *              says so.
 *   CODE       as the function would give it. For cuFileRead: negative is given as it is (-1 with errno EIO), 0 and
 *              above is a read that stops after so many bytes.
 * Gives 0, or -1 for an unreadable text, which changes nothing.
 */
int fst_sim_fail(const char *spec);

/*
 * Waits for all work, reads the environment again, and forgets violations, counts, injected failures and failed
 * devices and streams. What is held stays held. Not while another thread is in a call.
 */
void fst_sim_reset(void);

/* The time of the model (FST_SIM_MODEL), in nanoseconds. */
uint64_t fst_sim_model_now(void);

/* Copies device memory to `host` without any CUDA call or waiting; 0, or -1 if [device, device + bytes) is not held. */
int fst_sim_peek(const void *device, void *host, size_t bytes);

#endif
