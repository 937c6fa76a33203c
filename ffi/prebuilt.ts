/**
 * Libraries in a release of this package, for machines without a compiler.
 *
 * `deno task build:release` makes them as text (gzip in base64), because a module can import text from every place of the
 * package, but not yet bytes. The release workflow makes them. They are not in the repository, because each change of a
 * source would make them outdated. A checkout can have its own ones; they are used only if they match its sources.
 */
import { isGranted } from "./variables.ts";
import { cacheFolder, recipeHash } from "./build.ts";
import { sha256 } from "../src/base/sha256.ts";
import { checkPermissions } from "./permissions.ts";

/** A library of a release. */
export interface PrebuiltLibrary {
  /** Size of the library in bytes. */
  readonly size: number;
  /** SHA-256 of the library, hexadecimal. */
  readonly sha256: string;
  /** {@linkcode recipeHash} of its sources and flags. */
  readonly recipe: string;
}

/** `native/prebuilt/manifest.json`: platform (`linux-x86_64`) → library. */
export type PrebuiltManifest = Readonly<Record<string, PrebuiltLibrary>>;

/** The manifest and the libraries, imported on demand: they do not exist in a checkout. */
const IMPORTS = {
  manifest: () => import("../native/prebuilt/manifest.json", { with: { type: "text" } }),
  "linux-x86_64": () => import("../native/prebuilt/linux-x86_64.txt", { with: { type: "text" } }),
  "linux-aarch64": () => import("../native/prebuilt/linux-aarch64.txt", { with: { type: "text" } }),
};

/** The text modules of the package. */
type PackageTexts = Readonly<Record<keyof typeof IMPORTS, () => Promise<{ readonly default: string }>>>;

/** The platforms for which a release has a library. */
export const PLATFORMS = ["linux-x86_64", "linux-aarch64"] as const;

/** A platform with a library. */
export type Platform = typeof PLATFORMS[number];

/**
 * Unpacks the library of this platform to the user's cache folder, unless an intact copy exists, and returns its path.
 *
 * A rename makes the complete library visible in one step, so that several processes can unpack it at once.
 *
 * @param texts the text modules of the package; tests pass others
 * @returns null if the package has no library for this platform that matches its sources
 * @throws {PermissionsMissing} if the program cannot unpack or open it
 * @throws {Error} if the library in the package is damaged, or cannot be written
 */
export async function unpackPrebuilt(texts: PackageTexts = IMPORTS): Promise<string | null> {
  const platform = PLATFORMS.find((name) => name === `${Deno.build.os}-${Deno.build.arch}`);
  const manifest = await importText(texts.manifest);
  if (platform === undefined || manifest === null) return null;
  const library = readManifest(manifest)[platform];
  if (library?.recipe !== await recipeHash()) return null;
  const folder = cacheFolder();
  const path = `${folder}/libfastsafetensors-${library.sha256.slice(0, 24)}-prebuilt.so`;
  const isNew = !isGranted({ name: "read", path: folder }) || !await isUndamaged(path, library);
  checkPermissions({ path, folder, isNew, isBuilt: false });
  if (!isNew) return path;
  const packed = await importText(texts[platform]);
  if (packed === null) return null;
  const bytes = await unpack(packed, library);
  try {
    await writeInOneStep(folder, path, bytes);
  } catch (error) {
    throw unusable(error);
  }
  return path;
}

function readManifest(text: string): PrebuiltManifest {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw damaged((error as Error).message, error);
  }
}

/** Imports a text of the package; returns null if the package does not have it. */
async function importText(text: () => Promise<{ readonly default: string }>): Promise<string | null> {
  try {
    return (await text()).default;
  } catch (error) {
    if ((error as { code?: string }).code === "ERR_MODULE_NOT_FOUND") return null;
    throw error;
  }
}

async function isUndamaged(path: string, library: PrebuiltLibrary): Promise<boolean> {
  try {
    return await sha256(await Deno.readFile(path)) === library.sha256;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw unusable(error);
  }
}

/** Makes the error for a cache folder that cannot be used. */
function unusable(cause: unknown): Error {
  const { message } = cause as Error;
  return new Error(
    `Cannot unpack the prebuilt library: ${message}: set "XDG_CACHE_HOME" to a folder for it`,
    { cause },
  );
}

/** Encodes a library as text. */
export async function pack(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return (await new Response(stream).bytes()).toBase64();
}

/** Decodes and checks the library in a text. */
async function unpack(text: string, library: PrebuiltLibrary): Promise<Uint8Array<ArrayBuffer>> {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    const stream = new Blob([Uint8Array.fromBase64(text)]).stream();
    bytes = await new Response(stream.pipeThrough(new DecompressionStream("gzip"))).bytes();
  } catch (error) {
    throw damaged((error as Error).message, error);
  }
  const found = await sha256(bytes);
  if (found !== library.sha256) {
    throw damaged(
      `${bytes.byteLength} bytes with SHA-256 ${found}, not ${library.size} with ${library.sha256}`,
    );
  }
  return bytes;
}

function damaged(what: string, cause?: unknown): Error {
  return new Error(
    `Cannot unpack the prebuilt library: the package is damaged, get it again with "--reload": ${what}`,
    { cause },
  );
}

async function writeInOneStep(folder: string, path: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  const work = await Deno.makeTempFile({ dir: folder, prefix: "unpack-" });
  try {
    await Deno.writeFile(work, bytes);
    await Deno.chmod(work, 0o644); // readable for all users and writable for this one, for every umask
    await Deno.rename(work, path);
  } catch (error) {
    await Deno.remove(work);
    throw error;
  }
}
