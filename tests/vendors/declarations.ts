/**
 * The declarations of native/ for libraries of others: the structs of functions, and how a library names them.
 */
const NATIVE = new URL("../../native/", import.meta.url);

/** The functions of a library that native/ declares. */
export interface Declared {
  /** The text of the struct, with the types that it needs. */
  readonly text: string;
  /** The struct's name. */
  readonly struct: string;
  /** The names of its members. */
  readonly members: readonly string[];
  /** The symbol of a member in the library; and whether older libraries may lack it. */
  symbol(member: string): { readonly name: string; readonly optional: boolean };
}

/** The text of a file of native/. */
export function native(path: string): string {
  return Deno.readTextFileSync(new URL(path, NATIVE));
}

/** The definition of a type in a text. */
function definition(text: string, name: string): string {
  const found = new RegExp(`^typedef struct ${name} \\{\\n[^]*?^\\} ${name};`, "m").exec(text);
  if (!found) throw new Error(`native/ does not define ${name} any more`);
  return found[0];
}

/** Every unnamed enumeration of constants in a text. */
export function enumerations(text: string): string {
  return [...text.matchAll(/^enum \{[^]*?\};/gm)].map(([all]) => all).join("\n");
}

/** Reads the declarations of a library: its header and its table of symbols. */
export function declared(
  header: string,
  struct: string,
  table: string,
  types: readonly string[] = [],
): Declared {
  const text = native(header), symbols = native(table);
  const body = definition(text, struct);
  const members = [...body.matchAll(/^ {2}[^\n(/]*\(\*(\w+)\)\(/gm)].map(([, name]) => name!);
  return {
    text: [...types.map((name) => definition(text, name)), body].join("\n"),
    struct,
    members,
    symbol(member) {
      const row = new RegExp(`\\b(FUNCTION|FUNCTION_V2|OPTIONAL)\\(${member}(?:, (\\d))?\\)|\\{"${member}"`)
        .exec(symbols);
      if (!row) throw new Error(`native/${table} does not look for ${member}`);
      return {
        name: row[1] === "FUNCTION_V2" ? `${member}_v2` : member,
        optional: row[1] === "OPTIONAL" || row[2] === "1" || row[1] === undefined,
      };
    },
  };
}

/** The declarations for each library. */
export const LIBRARIES = {
  cudart: declared("cuda/cuda.h", "fst_cudart", "cuda/cudart.c"),
  cuda: declared("cuda/cuda.h", "fst_cuda_driver", "cuda/driver.c"),
  cufile: declared("cuda/cuda.h", "fst_cufile", "cuda/cufile.c", [
    "fst_cufile_error",
    "fst_cufile_description",
    "fst_cufile_properties",
  ]),
  nccl: declared("ranks/nccl.c", "nccl_library", "ranks/nccl.c", ["nccl_id", "nccl_config"]),
  mpi: declared("ranks/ranks.h", "fst_mpi_library", "ranks/mpi_process.c", ["fst_mpi_status"]),
} as const;
