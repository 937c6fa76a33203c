import { assertEquals, assertStringIncludes } from "@std/assert";
import { type Findings, remediesFor } from "../../src/doctor/remedies.ts";

const GPU = {
  device: "cuda:0",
  name: "GPU",
  capability: "9.0",
  freeBytes: 1,
  totalBytes: 2,
  pciBus: "",
  numaNode: -1,
} as const;
const ADAPTER = {
  name: "GPU",
  isSoftware: false,
  features: [],
  maxBufferSize: 1,
  maxStorageBufferBindingSize: 1,
  minStorageBufferOffsetAlignment: 256,
};

/** A machine without problems. */
const BEST: Findings = {
  system: "linux x86_64",
  deno: "2.9.6",
  cores: 8,
  engine: "native",
  library: "/lib.so",
  libraryReason: "",
  availableMemory: 1,
  cachestat: true,
  machine: {
    kernel: "6.12.1",
    sharedMemory: 2 ** 30,
    lockedMemory: null,
    infiniBand: ["mlx5_0"],
    hugePages: "madvise",
  },
  storage: [
    { path: "/a", fileSystem: "ext4", direct: true, usrbio: null, problem: "" },
    { path: "/dev/shm", fileSystem: "tmpfs", direct: false, usrbio: null, problem: "" },
    { path: "/empty", fileSystem: "nfs", direct: null, usrbio: null, problem: "" },
  ],
  usrbio: { library: "/libhf3fs_api_shared.so", reason: "", mounts: ["/3fs"] },
  cuda: {
    devices: [GPU],
    reason: "",
    library: "/libcudart.so",
    runtimeVersion: "12.4",
    driverVersion: "12.4",
    gds: { usable: true, state: "nvidia-fs is loaded" },
  },
  webgpu: { adapter: ADAPTER, reason: "" },
};

Deno.test("remediesFor() returns nothing for a machine without problems", () => {
  assertEquals(remediesFor({ ...BEST, usrbio: { library: null, reason: "none", mounts: [] } }), []);
  assertEquals(remediesFor(BEST), []);
  const unknown = { kernel: null, sharedMemory: null, lockedMemory: 1, infiniBand: [], hugePages: null };
  assertEquals(remediesFor({ ...BEST, machine: unknown }), []);
});

/** A problem, and parts of its one remedy. */
const SHORTFALLS: [name: string, shortfall: Partial<Findings>, ...parts: string[]][] = [
  [
    "an old kernel",
    { cachestat: false, machine: { ...BEST.machine, kernel: "6.1.0-18-amd64" } },
    "Linux 6.5 or newer, this is 6.1.0-18-amd64",
  ],
  [
    "a file system without direct reads",
    { storage: [{ path: "/mnt/x", fileSystem: "fuse.sshfs", direct: false, usrbio: null, problem: "" }] },
    '"/mnt/x" is on a file system without direct reads (fuse.sshfs)',
    "ext4 or XFS",
  ],
  [
    "a 3FS without its library",
    { usrbio: { library: null, reason: 'looked in "/nowhere"', mounts: ["/3fs"] } },
    "3FS is mounted (/3fs), and files there are read by ordinary reads",
    'looked in "/nowhere"',
    "HF3FS_LIB_DIR",
  ],
  [
    "a 3FS that is not used",
    {
      storage: [{
        path: "/3fs/a",
        fileSystem: "fuse.hf3fs",
        direct: false,
        usrbio: { mountPoint: "/3fs", used: false, reason: "the mount does not answer" },
        problem: "",
      }],
    },
    '"/3fs/a" is on 3FS, and read by ordinary reads, slower: the mount does not answer',
  ],
  ["no huge pages", { machine: { ...BEST.machine, hugePages: "never" } }, "echo madvise > /sys/kernel/mm/"],
  [
    "a small /dev/shm",
    { machine: { ...BEST.machine, sharedMemory: 64 * 2 ** 20 } },
    "/dev/shm has only 64 MiB",
    "--shm-size=8g",
  ],
  [
    "InfiniBand without memory to lock",
    { machine: { ...BEST.machine, lockedMemory: 65536 } },
    "Only 64 KiB of memory may be locked, and InfiniBand (mlx5_0)",
    "ulimit -l unlimited",
  ],
  [
    "no CUDA runtime",
    { cuda: { ...BEST.cuda, devices: [], library: null, reason: "no libcudart was found" } },
    "no libcudart was found",
    "FASTSAFETENSORS_CUDART_LIB",
  ],
  [
    "no NVIDIA GPU",
    { cuda: { ...BEST.cuda, devices: [], reason: "cudaErrorNoDevice" } },
    "cudaErrorNoDevice",
    "nvidia-smi",
  ],
  [
    "no GPUDirect Storage",
    { cuda: { ...BEST.cuda, gds: { usable: false, state: "nvidia-fs is not loaded" } } },
    "nvidia-fs is not loaded",
    "gdscheck -p",
  ],
  [
    "no WebGPU adapter",
    { webgpu: { adapter: null, reason: "no adapter was found: install one" } },
    "no adapter was found: install one",
  ],
  [
    "a WebGPU adapter in software",
    { webgpu: { adapter: { ...ADAPTER, name: "llvmpipe", isSoftware: true }, reason: "" } },
    "WebGPU runs on the processor (llvmpipe)",
    "Vulkan driver",
  ],
];

for (const [name, shortfall, ...parts] of SHORTFALLS) {
  Deno.test(`remediesFor() gives advice for ${name}`, () => {
    const remedies = remediesFor({ ...BEST, ...shortfall });
    assertEquals(remedies.length, 1);
    for (const part of parts) assertStringIncludes(remedies[0]!, part);
  });
}

Deno.test("remediesFor() gives advice without the native library, and no advice on unknown facts", () => {
  const without: Findings = {
    ...BEST,
    engine: "portable",
    library: null,
    libraryReason: 'Cannot build the native library: there is no C compiler "cc" on the PATH',
    cachestat: false,
    cuda: { ...BEST.cuda, devices: [], library: null, reason: "the native library is not used" },
    usrbio: { library: null, reason: "the native library is not used", mounts: ["/3fs"] },
  };
  const [trouble, remedy, ...more] = remediesFor(without);
  assertEquals([trouble, more], [
    `The native library is not used, loading is slower: ${without.libraryReason}`,
    [],
  ]);
  assertStringIncludes(remedy!, "Install a C compiler");
  const elsewhere = "the native library needs Linux, this is darwin";
  const lacking = "the native library needs more permissions, add --allow-ffi";
  for (const libraryReason of [elsewhere, lacking]) {
    assertEquals(remediesFor({ ...without, libraryReason }), [
      `The native library is not used, loading is slower: ${libraryReason}`,
    ]);
  }
});
