/**
 * Advice for a faster machine.
 */
import type { DoctorReport } from "./report.ts";
import { quote } from "../base/text.ts";
import { HF3FS } from "./usrbio.ts";

/**
 * The facts from which the remedies follow; `libraryReason` is the reason that the native library is missing, or empty.
 */
export type Findings = Omit<DoctorReport, "remedies"> & { readonly libraryReason: string };

/** Bytes of `/dev/shm` that suffice for ranks and 3FS; containers have 64 MiB by default. */
const ENOUGH_SHARED_MEMORY = 2 ** 30;

/** File systems in memory, and 3FS, do not gain from direct reads. */
const NO_NEED_OF_DIRECT = ["tmpfs", "ramfs", HF3FS];

/** One remedy for each problem: the problem, its cost, the advice. The most serious first. */
export function remediesFor(findings: Findings): string[] {
  return [
    ...forLibrary(findings),
    ...forReads(findings),
    ...forUsrbio(findings),
    ...forMemory(findings),
    ...forCuda(findings),
    ...forWebGpu(findings),
  ];
}

function forLibrary({ engine, libraryReason }: Findings): string[] {
  if (engine === "native") return [];
  const trouble = `The native library is not used, loading is slower: ${libraryReason}`;
  if (!libraryReason.includes("Cannot build")) return [trouble];
  return [
    trouble,
    "Install a C compiler (cc; Debian: apt-get install gcc libc6-dev), or name a built library in FASTSAFETENSORS_LIB",
  ];
}

function forReads({ engine, cachestat, machine, storage }: Findings): string[] {
  const remedies: string[] = [];
  if (engine === "native" && !cachestat) {
    const here = machine.kernel === null ? "" : `, this is ${machine.kernel}`;
    remedies.push(
      `Direct reads need Linux 6.5 or newer${here}: files that are not cached load slower. Use a newer kernel; in a ` +
        "container that hides the call cachestat, a newer container runtime",
    );
  }
  for (const { path, fileSystem, direct } of storage) {
    if (direct !== false || NO_NEED_OF_DIRECT.includes(fileSystem ?? "")) continue;
    remedies.push(
      `${quote(path)} is on a file system without direct reads${
        fileSystem === null ? "" : ` (${fileSystem})`
      }: files that ` +
        "are not cached load slower. Keep models on one that has them, such as ext4 or XFS; in a container, on a volume",
    );
  }
  return remedies;
}

function forUsrbio({ engine, usrbio, storage }: Findings): string[] {
  if (engine === "portable") return []; // without the library these facts are unknown
  if (usrbio.library === null) {
    const onIt = storage.flatMap(({ usrbio }) => usrbio ? [usrbio.mountPoint] : []);
    const mounts = [...new Set([...usrbio.mounts, ...onIt])];
    if (mounts.length === 0) return [];
    return [
      `3FS is mounted (${
        mounts.join(", ")
      }), and files there are read by ordinary reads, slower: its library was not ` +
      `found or cannot be used: ${usrbio.reason}. Install 3FS' Python package (the wheel hf3fs_py_usrbio), or name the ` +
      "folder of libhf3fs_api_shared.so in HF3FS_LIB_DIR",
    ];
  }
  return storage.flatMap(({ path, usrbio }) =>
    usrbio?.used === false
      ? [`${quote(path)} is on 3FS, and read by ordinary reads, slower: ${usrbio.reason}`]
      : []
  );
}

function forMemory({ machine }: Findings): string[] {
  const { sharedMemory, lockedMemory, infiniBand, hugePages } = machine;
  const remedies: string[] = [];
  if (hugePages === "never") {
    remedies.push(
      "Huge pages are switched off: the memory of tensors is slower to get. As root: echo madvise > " +
        "/sys/kernel/mm/transparent_hugepage/enabled",
    );
  }
  if (sharedMemory !== null && sharedMemory < ENOUGH_SHARED_MEMORY) {
    remedies.push(
      `/dev/shm has only ${
        Math.round(sharedMemory / 2 ** 20)
      } MiB, in which ranks on one machine, and the rings of ` +
        "3FS, share memory. As root: mount -o remount,size=8G /dev/shm; for a container, start it with --shm-size=8g",
    );
  }
  if (lockedMemory !== null && infiniBand.length > 0) {
    remedies.push(
      `Only ${Math.round(lockedMemory / 1024)} KiB of memory may be locked, and InfiniBand (${
        infiniBand.join(", ")
      }) needs it locked: ranks fall back to slower ways. Run ulimit -l unlimited, or set memlock in ` +
        "/etc/security/limits.conf; for a container, start it with --ulimit memlock=-1",
    );
  }
  return remedies;
}

function forCuda({ engine, cuda }: Findings): string[] {
  if (engine === "portable") return []; // without the library these facts are unknown
  if (cuda.devices.length === 0) {
    const todo = cuda.library === null
      ? "install the CUDA runtime (pip install nvidia-cuda-runtime-cu12, or the CUDA toolkit), or name its libcudart in " +
        "FASTSAFETENSORS_CUDART_LIB"
      : "check that nvidia-smi sees it: install or update NVIDIA's driver; start a container with --gpus all";
    return [`CUDA cannot be loaded to: ${cuda.reason}. If there is an NVIDIA GPU here, ${todo}`];
  }
  if (cuda.gds.usable) return [];
  return [
    `GPUDirect Storage is not used, bytes go to the GPU by way of pinned memory: ${cuda.gds.state}. If models are on ` +
    "local NVMe, install NVIDIA's nvidia-gds (libcufile and the module nvidia-fs), and check it with gdscheck -p",
  ];
}

function forWebGpu({ webgpu }: Findings): string[] {
  if (!webgpu.adapter) return [`WebGPU cannot be loaded to: ${webgpu.reason}`];
  if (!webgpu.adapter.isSoftware) return [];
  return [
    `WebGPU runs on the processor (${webgpu.adapter.name}). If there is a GPU here, install its Vulkan driver, and start ` +
    "a container with the device /dev/dri, or with --gpus all",
  ];
}
