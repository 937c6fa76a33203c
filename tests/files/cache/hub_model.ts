/**
 * A model of two shards on a stand-in of the Hub, for tests of the cache.
 */
import { FaultyServer } from "../../support/faulty_server.ts";
import { hubFiles } from "../../support/hub_files.ts";
import { fileOf, type TempFolder, tempFolder, type Written } from "../../support/models.ts";

export const ID = "acme/tiny", COMMIT = "1".repeat(40);

/** A shard. */
export interface Shard {
  readonly name: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** The stand-in, and a folder for caches. */
export class HubScene implements AsyncDisposable {
  readonly server: FaultyServer;
  readonly folder: TempFolder;
  readonly tensors: readonly Written[];
  readonly shards: readonly Shard[];

  private constructor(
    server: FaultyServer,
    folder: TempFolder,
    tensors: Written[],
    shards: readonly Shard[],
  ) {
    this.server = server;
    this.folder = folder;
    this.tensors = tensors;
    this.shards = shards;
  }

  /** @param rows of each of the 8 tensors, which have 4096 bytes a row */
  static async make(rows = 64): Promise<HubScene> {
    const spec = (name: string) => ({ name, dtype: "F32" as const, shape: [rows, 1024] });
    const shards = [1, 2].map((number) => {
      const { bytes, tensors } = fileOf(["a", "b", "c", "d"].map((letter) => spec(`${letter}${number}`)));
      return { name: `model-0000${number}-of-00002.safetensors`, bytes, tensors };
    });
    const map = Object.fromEntries(
      shards.flatMap(({ name, tensors }) => tensors.map((tensor) => [tensor.name, name])),
    );
    const index = new TextEncoder().encode(JSON.stringify({ metadata: {}, weight_map: map }));
    const files = {
      "model.safetensors.index.json": index,
      "config.json": new TextEncoder().encode("{}"),
      ...Object.fromEntries(shards.map(({ name, bytes }) => [name, bytes])),
    };
    const server = new FaultyServer(hubFiles({ id: ID, commit: COMMIT, files }));
    return new HubScene(server, await tempFolder(), shards.flatMap(({ tensors }) => tensors), shards);
  }

  /** Environment variables of a program that uses the stand-in and the cache. */
  get env(): Record<string, string> {
    return { HF_ENDPOINT: this.server.url(""), HF_HUB_CACHE: this.folder.path, NO_COLOR: "1" };
  }

  get repo(): string {
    return `${this.folder.path}/models--acme--tiny`;
  }

  /** Ranges of a shard that the server was asked for since the last call. */
  takeRequests(): { readonly shard: string; readonly first: number; readonly last: number }[] {
    return this.server.requests.splice(0).flatMap(({ target, range }) => {
      const shard = this.shards.find(({ name }) => target.endsWith(name));
      return shard && range ? [{ shard: shard.name, ...range }] : [];
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]();
    await this.folder[Symbol.asyncDispose]();
  }
}
