/**
 * A Python in this process, through libpython: an independent consumer of DLPack tensors.
 */
import { exists } from "./skip.ts";

/** Every Python on the PATH: the first may lack a module that another one has. */
const PYTHONS = [...new Set((Deno.env.get("PATH") ?? "").split(":"))].map((folder) => `${folder}/python3`)
  .filter(exists);

/** The path of a libpython that can import a module; or the reason against it. */
export async function findPython(module: string): Promise<{ path: string; missing: string | null }> {
  const missing: string[] = [];
  for (const python of PYTHONS) {
    const found = await tryPython(python, module);
    if (found.missing === null) return found;
    missing.push(`${python}: ${found.missing}`);
  }
  return { path: "", missing: missing.join("; ") || "there is no python3 on the PATH" };
}

async function tryPython(python: string, module: string): Promise<{ path: string; missing: string | null }> {
  const script = `import sys, sysconfig, os, ${module}
if "numpy" in sys.modules and int(sys.modules["numpy"].__version__.split(".")[0]) < 2:
  raise ImportError("versioned DLPack needs NumPy 2")
config = sysconfig.get_config_vars()
name = config.get("INSTSONAME") or config["LDLIBRARY"]
paths = [os.path.join(folder, name) for folder in (config["LIBDIR"], os.path.join(sys.base_prefix, "lib"))]
print(next(filter(os.path.exists, paths), paths[0]))
print(sys.base_prefix)
print(os.pathsep.join(filter(None, sys.path)))`;
  try {
    const command = new Deno.Command(python, { args: ["-c", script], stderr: "piped" });
    const { success, stdout, stderr } = await command.output();
    const decoder = new TextDecoder();
    if (!success) return { path: "", missing: decoder.decode(stderr).trim().split("\n").at(-1)! };
    const [path = "", home = "", modules = ""] = decoder.decode(stdout).split("\n");
    if (!path.includes(".so")) return { path: "", missing: "it has no libpython" };
    await Deno.stat(path);
    Deno.env.set("PYTHONHOME", home); // otherwise libpython uses the modules of the first Python on the PATH
    Deno.env.set("PYTHONPATH", modules); // those of a virtual environment are not below its home
    return { path, missing: null };
  } catch (error) {
    return { path: "", missing: (error as Error).message };
  }
}

const SYMBOLS = {
  Py_InitializeEx: { parameters: ["i32"], result: "void" },
  PyRun_SimpleString: { parameters: ["buffer"], result: "i32" },
  PyCapsule_New: { parameters: ["u64", "buffer", "pointer"], result: "pointer" },
  PyImport_AddModule: { parameters: ["buffer"], result: "pointer" },
  PyObject_SetAttrString: { parameters: ["pointer", "buffer", "pointer"], result: "i32" },
  Py_DecRef: { parameters: ["pointer"], result: "void" },
} as const satisfies Deno.ForeignLibraryInterface;

const encoder = new TextEncoder();
const text = (string: string) => encoder.encode(`${string}\0`);

/** A Python. There can be only one in a process, and it stays until the end. */
export class Python {
  readonly #symbols: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];
  readonly #main: Deno.PointerValue;
  /** Names of capsules: they must live as long as the capsules. */
  readonly #names = { false: text("dltensor"), true: text("dltensor_versioned") };

  /** Starts the library at this path. */
  constructor(path: string) {
    // Its modules look up symbols in the process, and Deno.dlopen does not export them.
    const RTLD_NOW = 2, RTLD_GLOBAL = 0x100;
    const libc = Deno.dlopen("libc.so.6", { dlopen: { parameters: ["buffer", "i32"], result: "pointer" } });
    libc.symbols.dlopen(text(path), RTLD_NOW | RTLD_GLOBAL);
    this.#symbols = Deno.dlopen(path, SYMBOLS).symbols;
    this.#symbols.Py_InitializeEx(0);
    this.#main = this.#symbols.PyImport_AddModule(text("__main__"));
    this.run(`
class Given:
    """What __dlpack__ of another library's tensor would be."""
    def __init__(self, capsule, device):
        self.capsule, self.device = capsule, device
    def __dlpack__(self, **_options):
        return self.capsule
    def __dlpack_device__(self):
        return self.device
`);
  }

  /** Runs statements; fails if one raises (its traceback goes to stderr). */
  run(code: string): void {
    if (this.#symbols.PyRun_SimpleString(text(code)) !== 0) {
      throw new Error(`Python raised an exception in:\n${code}`);
    }
  }

  /** Assigns a DLPack tensor to the variable `capsule`. */
  give(tensor: bigint, versioned: boolean): void {
    const name = this.#names[versioned ? "true" : "false"];
    const capsule = this.#symbols.PyCapsule_New(tensor, name, null);
    this.#symbols.PyObject_SetAttrString(this.#main, text("capsule"), capsule);
    this.#symbols.Py_DecRef(capsule);
  }
}
