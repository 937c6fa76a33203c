/**
 * The declarations of native/ beside the vendors' own headers, in one compilation: signatures of functions, constants,
 * sizes and offsets.
 */
import { missingCxx } from "../support/compiler.ts";
import { tempFolder } from "../support/models.ts";
import { run } from "../support/objects.ts";
import { exists, suite } from "../support/skip.ts";
import { type Declared, enumerations, LIBRARIES, native } from "./declarations.ts";
import { findPtxas, folderWith, type Vendor, VENDORS } from "./vendors.ts";

const HERE = new URL(".", import.meta.url).pathname;

/** A program that compiles only if everything in it agrees. */
interface Agreement {
  readonly libraries: readonly Declared[];
  /** Text before the declarations, and between the vendors' headers and the assertions. */
  readonly before?: string;
  readonly after?: string;
  /** The vendors' headers. */
  readonly headers: readonly string[];
  /** Pairs of constants, ours first. */
  readonly constants?: readonly (readonly [ours: string | number, theirs: string])[];
  /** Types whose layouts agree, and their members: ours first. */
  readonly layouts?:
    readonly (readonly [ours: string, theirs: string, members: Readonly<Record<string, string>>])[];
  /** Our members that an installed version may lack. */
  readonly without?: readonly string[];
}

function programOf({ libraries, before, after, headers, constants, layouts, without }: Agreement): string {
  const functions = libraries.flatMap((library) =>
    library.members.filter((name) => !without?.includes(name)).map((name) => ({ library, name }))
  );
  return [
    `#include "${HERE}same.hpp"`,
    before ?? "",
    ...libraries.map(({ text }) => text),
    // Before the headers, whose macros rename functions.
    ...functions.map(({ library, name }) => `using our_${name}_ = decltype(${library.struct}::${name});`),
    ...headers.map((name) => `#include <${name}>`),
    after ?? "",
    ...functions.map(({ library, name }) => {
      const { name: symbol } = library.symbol(name);
      return `static_assert(same_function<our_${name}_, decltype(&::${symbol})>::value, "${symbol}");`;
    }),
    ...(constants ?? []).map(([ours, theirs]) =>
      `static_assert((long long)(${ours}) == (long long)(${theirs}), "${ours} is not ${theirs}");`
    ),
    ...(layouts ?? []).flatMap(([ours, theirs, members]) =>
      Object.entries(members).map(([own, other]) =>
        `static_assert(offsetof(${ours}, ${own}) == offsetof(${theirs}, ${other}) && ` +
        `sizeof(((${ours} *)0)->${own}) == sizeof(((${theirs} *)0)->${other}), "${ours}.${own}");`
      )
    ),
    "int main() { return 0; }",
  ].join("\n");
}

/** Defines a test that compiles an agreement with a vendor's headers. */
function agrees(name: keyof typeof VENDORS, agreement: Agreement, more: readonly Vendor[] = []): void {
  const vendor = VENDORS[name];
  const folders = [vendor, ...more].map(({ header, includes }) => folderWith(header, includes));
  const missing = missingCxx() ?? folders.find(({ missing }) => missing)?.missing ?? null;
  // Wheels have the headers that a header includes in folders of their own.
  const includes = [vendor, ...more].flatMap(({ includes }) => includes).filter(exists);
  suite(`the declarations for ${name}`, vendor.requirement, missing, () => {
    Deno.test(`the declarations for ${name} are those of its header`, async () => {
      await using folder = await tempFolder();
      const source = `${folder.path}/agreement.cpp`;
      await Deno.writeTextFile(source, programOf(agreement));
      await run("c++", ["-std=c++17", "-fsyntax-only", "-w", ...includes.map((path) => `-I${path}`), source]);
    });
  });
}

agrees("CUDA", {
  libraries: [LIBRARIES.cudart, LIBRARIES.cuda],
  before: enumerations(native("cuda/cuda.h")),
  headers: ["cuda.h", "cuda_runtime_api.h"],
  constants: [
    ["FST_CUDA_TO_DEVICE", "cudaMemcpyHostToDevice"],
    ["FST_CUDA_TO_HOST", "cudaMemcpyDeviceToHost"],
    ["FST_CUDA_ON_DEVICE", "cudaMemcpyDeviceToDevice"],
    ["FST_CUDA_OUT_OF_MEMORY", "cudaErrorMemoryAllocation"],
    ["FST_CUDA_OUT_OF_MEMORY", "CUDA_ERROR_OUT_OF_MEMORY"],
    ["FST_CUDA_DRIVER_TOO_OLD", "cudaErrorInsufficientDriver"],
    ["FST_CUDA_NO_DEVICE", "cudaErrorNoDevice"],
    ["FST_CUDA_NO_DEVICE", "CUDA_ERROR_NO_DEVICE"],
    ["FST_CUDA_INVALID_DEVICE", "cudaErrorInvalidDevice"],
    ["FST_CUDA_INVALID_DEVICE", "CUDA_ERROR_INVALID_DEVICE"],
    ["FST_CUDA_MULTIPROCESSORS", "cudaDevAttrMultiProcessorCount"],
    ["FST_CUDA_CAPABILITY_MAJOR", "cudaDevAttrComputeCapabilityMajor"],
    ["FST_CUDA_CAPABILITY_MINOR", "cudaDevAttrComputeCapabilityMinor"],
    ["FST_CUDA_STREAM_NON_BLOCKING", "cudaStreamNonBlocking"],
    ["FST_CUDA_EVENT_BLOCKING_WAIT", "cudaEventBlockingSync"],
    ["FST_CUDA_EVENT_NO_TIMING", "cudaEventDisableTiming"],
    ["FST_CUDA_HOST_PORTABLE", "cudaHostRegisterPortable"],
  ],
});

/** The parameters and codes of cuFile in cufile.c, by the names there. */
const cufile = native("cuda/cufile.c");
const CUFILE_CODES = [...cufile.matchAll(/case (\d+): return "(CU_FILE_\w+)"/g)]
  .map(([, code, name]) => [`FST_CUFILE_FIRST + ${code}`, name!] as const);

agrees("cuFile", {
  libraries: [LIBRARIES.cufile],
  before: enumerations(cufile) + "\nenum { FST_CUFILE_FIRST = 5000 };",
  headers: ["cufile.h"],
  // The header has a macro of this name; the library has both functions.
  after: '#undef cuFileDriverClose\nextern "C" CUfileError_t cuFileDriverClose(void);',
  constants: [
    ["ALLOW_COMPATIBILITY", "CUFILE_PARAM_PROPERTIES_ALLOW_COMPAT_MODE"],
    ["FORCE_COMPATIBILITY", "CUFILE_PARAM_FORCE_COMPAT_MODE"],
    ["USE_PCI_P2PDMA", "CUFILE_PARAM_USE_PCIP2PDMA"],
    ["LOGFILE_PATH", "CUFILE_PARAM_ENV_LOGFILE_PATH"],
    ["ALLOWS_COMPATIBILITY", "1 << CU_FILE_ALLOW_COMPAT_MODE"],
    ["ALREADY_OPEN", "CU_FILE_DRIVER_ALREADY_OPEN"],
    [1, "CU_FILE_HANDLE_TYPE_OPAQUE_FD"],
    ...CUFILE_CODES,
  ],
  layouts: [
    ["fst_cufile_error", "CUfileError_t", { err: "err", cu_err: "cu_err" }],
    ["fst_cufile_description", "CUfileDescr_t", {
      type: "type",
      "handle.fd": "handle.fd",
      handle: "handle",
      fs_ops: "fs_ops",
    }],
    ["fst_cufile_properties", "CUfileDrvProps_t", {
      major_version: "nvfs.major_version",
      direct_bytes: "nvfs.max_direct_io_size",
      status_flags: "nvfs.dstatusflags",
      control_flags: "nvfs.dcontrolflags",
      feature_flags: "fflags",
      batch_ms: "max_batch_io_timeout_msecs",
    }],
  ],
}, [VENDORS.CUDA]);

agrees("NCCL", {
  libraries: [LIBRARIES.nccl],
  before: enumerations(native("ranks/nccl.c")) + "\n" +
    /^#define FST_NCCL_ID_BYTES .*|enum \{ FST_NCCL_ID_BYTES[^;]*;/m.exec(native("fst_group.h"))![0],
  headers: ["nccl.h"],
  constants: [
    ["IN_PROGRESS", "ncclInProgress"],
    ["UINT8", "ncclUint8"],
    ["CUDA_NOT_READY", "cudaErrorNotReady"],
    ["FST_NCCL_ID_BYTES", "NCCL_UNIQUE_ID_BYTES"],
    ["sizeof(nccl_id)", "sizeof(ncclUniqueId)"],
    ["true", "sizeof(nccl_config) <= sizeof(ncclConfig_t)"],
    [/0xcafebeef/.exec(native("ranks/nccl.c"))![0], "(ncclConfig_t NCCL_CONFIG_INITIALIZER).magic"],
  ],
  layouts: [["nccl_config", "ncclConfig_t", {
    size: "size",
    magic: "magic",
    version: "version",
    blocking: "blocking",
  }]],
}, [VENDORS.CUDA]);

/** A number that native/ranks/mpi_process.c defines for a family of MPI. */
function mpiNumber(family: string, name: string): string {
  const text = native("ranks/mpi_process.c");
  const start = text.indexOf(`family = "${family}"`), end = text.indexOf("}", start);
  return new RegExp(`mpi->${name} = ([^;(]+);`).exec(text.slice(start, end))![1]!;
}

/** What both families' headers must agree with. */
function mpi(family: "Open MPI" | "MPICH", more: Agreement["constants"] = []): Agreement {
  const handles = ["MPI_Comm", "MPI_Datatype", "MPI_Request", "MPI_Message", "MPI_Errhandler"];
  return {
    libraries: [LIBRARIES.mpi],
    before: "typedef uintptr_t fst_mpi_handle;\n#define _Alignas alignas\n#define OMPI_SKIP_MPICXX 1\n" +
      "#define MPICH_SKIP_MPICXX 1",
    headers: ["mpi.h"],
    after: [...new Set(handles)].map((name, index) =>
      // Where handles are ints, all of these are one type.
      family === "MPICH" && index > 0 ? "" : `template <> struct is_handle<${name}> : std::true_type {};`
    ).join("\n"),
    without: ["MPIX_Query_cuda_support"], // of an extension's header
    constants: [
      [mpiNumber(family, "any_source"), "MPI_ANY_SOURCE"],
      [mpiNumber(family, "tag_ub"), "MPI_TAG_UB"],
      [1, "MPI_THREAD_FUNNELED"],
      [2, "MPI_THREAD_SERIALIZED"],
      [
        "true",
        "sizeof(MPI_Status) <= sizeof(fst_mpi_status) && alignof(MPI_Status) <= alignof(fst_mpi_status)",
      ],
      ...more,
    ],
  };
}

agrees("Open MPI", mpi("Open MPI"));
agrees(
  "MPICH",
  mpi("MPICH", [
    [mpiNumber("MPICH", "world"), "MPI_COMM_WORLD"],
    [mpiNumber("MPICH", "byte"), "MPI_BYTE"],
  ]),
);

const ptxas = findPtxas();
suite("the PTX of the kernels", "ptxas", ptxas.missing, () => {
  Deno.test("ptxas assembles the PTX for every GPU that it knows", async () => {
    await using folder = await tempFolder();
    const lines = [...native("cuda/kernels/cast_ptx.h").matchAll(/^ {2}"(.*)\\n";?$/gm)];
    const text = lines.map(([, line]) => line!.replace(/\\(["\\])/g, "$1")).join("\n");
    const source = `${folder.path}/cast.ptx`;
    await Deno.writeTextFile(source, `${text}\n`);
    const { stdout } = await new Deno.Command(ptxas.path, { args: ["--help"] }).output();
    const targets = new Set(new TextDecoder().decode(stdout).match(/(?<=')sm_\d+(?=')/g));
    if (targets.size === 0) throw new Error("ptxas --help names no GPU");
    for (const target of targets) {
      await run(ptxas.path, [`-arch=${target}`, source, "-o", `${folder.path}/cast.cubin`]);
    }
  });
});
