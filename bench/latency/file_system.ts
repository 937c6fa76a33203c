/**
 * The file system that answers every read after a fixed time (`latency_fs.c`), and the reader in C beside it.
 */
import { output } from "../side_by_side/tools.ts";

/** The multiple of the bytes of a file system: the size of a tensor in each of the shards. */
export const BYTES_UNIT = 4 * 2 ** 24;

const SHARDS = 4;

/** The built programs, and the folder that the file system is mounted on. */
export class LatencyFileSystem {
  /** Paths of the shards, which only commands of {@linkcode run} can open. */
  readonly files: readonly string[];
  /** Path of the reader in C. */
  readonly reader: string;
  readonly #program: string;
  readonly #mountPoint: string;
  readonly #bytes: number;

  private constructor(folder: string, bytes: number) {
    this.#program = `${folder}/latency_fs`;
    this.reader = `${folder}/reader`;
    this.#mountPoint = `${folder}/mount`;
    this.#bytes = bytes;
    this.files = Array.from({ length: SHARDS }, (_, index) => {
      return `${this.#mountPoint}/shard_${index}.safetensors`;
    });
  }

  /**
   * Builds the programs in a folder.
   *
   * @param bytes Bytes of all tensors, a multiple of {@linkcode BYTES_UNIT}
   * @throws {Error} if the C compiler is missing
   */
  static async build(folder: string, bytes: number): Promise<LatencyFileSystem> {
    const flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"];
    for (const name of ["latency_fs", "reader"]) {
      const source = new URL(`./${name}.c`, import.meta.url).pathname;
      await output("cc", [...flags, "-o", `${folder}/${name}`, source, "-lpthread"]);
    }
    await Deno.mkdir(`${folder}/mount`);
    return new LatencyFileSystem(folder, bytes);
  }

  /**
   * Mounts the file system, runs a command that sees it, and returns the command's output.
   *
   * @param delay Milliseconds from the arrival of a read to its answer
   * @param more More options of the program, for tests
   * @throws {Error} if the mount is not allowed, or the command fails
   */
  run(
    delay: number,
    command: string,
    args: readonly string[],
    more: readonly string[] = [],
  ): Promise<string> {
    const options = ["-d", String(delay), "-n", String(SHARDS), "-b", String(this.#bytes / SHARDS), ...more];
    return output(this.#program, [...options, this.#mountPoint, command, ...args]);
  }

  /** Whether the kernel allows io_uring; containers often forbid it. */
  async allowsRing(): Promise<boolean> {
    return await output(this.reader, ["-u"]) === "yes";
  }
}
