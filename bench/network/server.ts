/**
 * The server of the benchmark (`server.c`), and the C program that reads from it (`../limit/network.c`).
 */
import { output } from "../side_by_side/tools.ts";

/** The built programs. */
export class NetworkTools {
  /** Path of the C program. */
  readonly probe: string;
  readonly #server: string;

  private constructor(folder: string) {
    this.probe = `${folder}/network`;
    this.#server = `${folder}/server`;
  }

  /**
   * Builds the programs in a folder.
   *
   * @throws {Error} if the C compiler is missing
   */
  static async build(folder: string): Promise<NetworkTools> {
    const flags = ["-std=gnu11", "-O3", "-Wall", "-Wextra", "-Werror"];
    for (const [name, source] of [["server", "./server.c"], ["network", "../limit/network.c"]] as const) {
      const path = new URL(source, import.meta.url).pathname;
      await output("cc", [...flags, "-o", `${folder}/${name}`, path, "-lpthread", "-ldl"]);
    }
    return new NetworkTools(folder);
  }

  /**
   * Serves the files of a folder on the loopback, until the result is disposed.
   *
   * @param delay milliseconds from a request to its answer
   */
  async serve(folder: string, delay: number): Promise<NetworkServer> {
    const process = new Deno.Command(this.#server, {
      args: ["-d", String(delay), folder],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const reader = process.stdout.getReader();
    const port = Number(new TextDecoder().decode((await reader.read()).value));
    return {
      url: (name) => `http://127.0.0.1:${port}/${name}`,
      async [Symbol.asyncDispose]() {
        await process.stdin.close();
        await reader.cancel();
        await process.status;
      },
    };
  }
}

/** A running server. */
export interface NetworkServer extends AsyncDisposable {
  /** The URL of a file in its folder. */
  url(name: string): string;
}
