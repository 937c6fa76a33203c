/**
 * The vendors' own headers, libraries and assembler, where this machine has them: a CUDA toolkit, pip's wheels below the
 * folders FASTSAFETENSORS_TEST_VENDORS (.ci/run fills them) or Python's packages, and Debian's MPI.
 *
 * Run as a program, it prints a line for each that is missing: its requirement and the reason.
 */
import { exists, type Requirement } from "../support/skip.ts";

/** What a vendor gives. */
export interface Vendor {
  /** The requirement of its tests. */
  readonly requirement: Requirement;
  /** The file in a folder of headers. */
  readonly header: string;
  /** The file in a folder of libraries; null: its library is not opened by name. */
  readonly library: string | null;
  /** The folders that may have the header and the library. */
  readonly includes: readonly string[];
  readonly libraries: readonly string[];
}

const PATH = (Deno.env.get("PATH") ?? "").split(":");
const TOOLKITS = [Deno.env.get("CUDA_HOME"), "/usr/local/cuda"].filter((path) => path !== undefined);
const WHEELS = [...(Deno.env.get("FASTSAFETENSORS_TEST_VENDORS") ?? "").split(":"), ...sitePackages()]
  .filter((path) => path !== "").map((path) => `${path}/nvidia`);

/** The folders of the packages of every Python on the PATH. */
function sitePackages(): string[] {
  return PATH.flatMap((folder) => {
    const lib = folder.replace(/\/bin$/, "/lib");
    if (lib === folder || !exists(`${folder}/python3`)) return [];
    const names = [...Deno.readDirSync(lib)].map(({ name }) => name).filter((name) => /^python3/.test(name));
    return names.map((name) => `${lib}/${name}/site-packages`);
  });
}

const cuda = {
  includes: [
    ...TOOLKITS.map((path) => `${path}/include`),
    ...WHEELS.flatMap((path) => [`${path}/cu13/include`, `${path}/cu13/include/cccl`]),
  ],
  libraries: [
    ...TOOLKITS.flatMap((path) => [`${path}/lib64`, `${path}/lib`]),
    ...WHEELS.map((path) => `${path}/cu13/lib`),
  ],
};

/** All of them, by the name in the titles of tests. */
export const VENDORS = {
  "CUDA": {
    requirement: "vendor-cuda",
    header: "cuda_runtime_api.h",
    library: "libcudart.so.13",
    ...cuda,
  },
  "cuFile": { requirement: "vendor-cufile", header: "cufile.h", library: "libcufile.so.0", ...cuda },
  "NCCL": {
    requirement: "vendor-nccl",
    header: "nccl.h",
    library: "libnccl.so.2",
    includes: ["/usr/include", ...WHEELS.map((path) => `${path}/nccl/include`)],
    libraries: WHEELS.map((path) => `${path}/nccl/lib`),
  },
  "Open MPI": {
    requirement: "vendor-open-mpi",
    header: "mpi.h",
    library: null,
    includes: [`/usr/lib/${Deno.build.arch}-linux-gnu/openmpi/include`],
    libraries: [],
  },
  "MPICH": {
    requirement: "vendor-mpich",
    header: "mpi.h",
    library: null,
    includes: [`/usr/include/${Deno.build.arch}-linux-gnu/mpich`],
    libraries: [],
  },
} as const satisfies Record<string, Vendor>;

/** The first folder with a file, or the reason that there is none. */
export function folderWith(
  file: string,
  folders: readonly string[],
): { path: string; missing: string | null } {
  const path = folders.find((folder) => exists(`${folder}/${file}`));
  return {
    path: path ?? "",
    missing: path === undefined ? `"${file}" is in none of ${folders.join(", ")}` : null,
  };
}

/** The assembler of CUDA's toolkit, or the reason that there is none. */
export function findPtxas(): { path: string; missing: string | null } {
  const folders = [
    ...PATH,
    ...TOOLKITS.map((path) => `${path}/bin`),
    ...WHEELS.map((path) => `${path}/cu13/bin`),
  ];
  const { path, missing } = folderWith("ptxas", folders);
  return { path: `${path}/ptxas`, missing: missing && "there is no ptxas on the PATH or in a CUDA toolkit" };
}

/** What is missing here: requirement and reason. */
function* missingHere(): Generator<[Requirement, string]> {
  for (const { requirement, header, library, includes, libraries } of Object.values<Vendor>(VENDORS)) {
    const missing = folderWith(header, includes).missing ??
      (library === null ? null : folderWith(library, libraries).missing);
    if (missing) yield [requirement, missing];
  }
  const { missing } = findPtxas();
  if (missing) yield ["ptxas", missing];
}

if (import.meta.main) {
  for (const [requirement, reason] of missingHere()) console.log(`${requirement} ${reason}`);
}
