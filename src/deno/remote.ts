/**
 * Opens files on servers, alone or beside local ones. This module is imported when a URL is named.
 */
import { openLibrary } from "../../ffi/library.ts";
import { HttpClient } from "../files/http/client.ts";
import type { FileContext } from "../files/http/http_file.ts";
import { HttpSource } from "../files/http/http_source.ts";
import { LocatedNames } from "../files/http/located_names.ts";
import { WebNames } from "../files/http/web_names.ts";
import type { FileNames } from "../files/inputs.ts";
import { NativeHttpSource } from "../files/native/http_file.ts";
import { LocalNames } from "../files/native/local_names.ts";
import { NativeFileSource } from "../files/native/native_file.ts";
import { DenoNetwork, SURROUNDINGS } from "../files/native/network_host.ts";
import { PortableFileSource } from "../files/native/portable_file.ts";
import { type CacheOption, type CheckedNetworkOptions, limitsOf } from "../files/network_options.ts";
import { AllFiles, AllNames, type RemoteKind } from "../files/remote_names.ts";
import type { CachingOptions } from "../files/native/cache/caching_source.ts";
import { laneFiles } from "../files/native/cache/lane_files.ts";
import type { OpenedCache } from "../files/native/cache/open_cache.ts";
import type { Source, SourceFile, UrlSource } from "../files/source.ts";
import { selectEngine } from "../load/native/select.ts";

/** The options that files on servers depend on. */
export interface RemoteOptions {
  readonly network: CheckedNetworkOptions;
  readonly cache?: CacheOption | undefined;
  /** The source of the user that says where the files are; all paths are its names. */
  readonly urls?: UrlSource | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Whether a wrong checksum of a file for the cache is an error when it is closed. Default: a note. */
  readonly isStrict?: boolean;
  /** The device to which the files will be loaded; missing if only headers are read. */
  readonly device?: unknown;
}

/** Names and files of all kinds. */
export interface Remote extends Disposable {
  readonly names: FileNames;
  readonly source: Source;
}

/**
 * Prepares the names and the source of files on servers. Dispose it after the files have been opened.
 *
 * @param paths what the user has named
 * @param folder the folder of relative local paths
 * @throws {TypeError} if a variable or a file of the environment has a wrong value
 */
export async function openRemote(
  paths: readonly string[],
  { network, cache, urls, signal = new AbortController().signal, isStrict, device }: RemoteOptions,
  folder?: string,
): Promise<Remote> {
  const host = new DenoNetwork();
  const client = new HttpClient(host);
  const contextOf = (seconds?: number): FileContext => ({
    client,
    limits: limitsOf(network, seconds),
    signal,
  });
  const isNamed = (scheme: string) => !urls && paths.some((path) => path.toLowerCase().startsWith(scheme));
  const kinds: RemoteKind[] = [
    urls ? new LocatedNames(contextOf(), urls) : new WebNames(contextOf(), network.headers),
  ];
  const nameOf = (path: string) => kinds.find((kind) => kind.matches(path))!.nameOf(path);
  // Lanes read the bytes where the native library is available; headers need none.
  const engine = device === undefined ? null : await selectEngine();
  const shim = engine?.name === "native" ? (await openLibrary()).shim : null;
  const local = shim ? new NativeFileSource(shim) : new PortableFileSource();
  const hub = isNamed("hf:") ? await findHub(network) : null;
  const remote = new HttpSource(contextOf(hub?.settings.downloadSeconds), nameOf);
  const opened = hub && cache !== false || cache
    ? await openCache(cache, { remote, local, nameOf, lanes: shim && laneFiles(shim), signal, isStrict })
    : null;
  const cached = typeof opened === "string" ? null : opened;
  const notes = typeof opened === "string" ? [opened] : [];
  const source = new AllFiles(kinds, cached?.source ?? remote, local, notes);
  if (hub) {
    const { HubNames, settings } = hub;
    kinds.push(
      new HubNames(
        contextOf(settings.listSeconds),
        (path) => source.open(path),
        settings,
        cached?.memory ?? null,
      ),
    );
  }
  if (isNamed("s3:")) {
    const [{ S3Names }, { s3Settings }] = await Promise.all([
      import("../files/s3/s3_names.ts"),
      import("../files/s3/s3_settings.ts"),
    ]);
    kinds.push(new S3Names(contextOf(), await s3Settings(network.s3, SURROUNDINGS)));
  }
  host.retain(); // connections of names are used again for files
  return {
    names: new AllNames(new LocalNames(folder), kinds),
    source: shim ? new NativeHttpSource(shim, source, device) : source,
    [Symbol.dispose]: () => host.release(),
  };
}

/** Imports what names on the Hub need. */
async function findHub(network: CheckedNetworkOptions) {
  const [{ HubNames }, { hubSettings }] = await Promise.all([
    import("../files/hub/hub_names.ts"),
    import("../files/hub/hub_settings.ts"),
  ]);
  return { HubNames, settings: await hubSettings(network.hub, SURROUNDINGS) };
}

/** Imports the cache, which programs with `cache: false` do not need. */
async function openCache(
  option: CacheOption | undefined,
  options: Omit<CachingOptions<SourceFile>, "folders" | "urls" | "fills" | "links" | "memory">,
): Promise<OpenedCache<SourceFile> | string> {
  const { openCache } = await import("../files/native/cache/open_cache.ts");
  return openCache(option, options);
}
