/**
 * File systems that tests mount: small ones, which get full, and read-only ones.
 */
import { tempFolder } from "./models.ts";

/** Runs a program; returns the reason of a failure, or null. */
export async function run(command: string, ...args: string[]): Promise<string | null> {
  try {
    const { success, stderr } = await new Deno.Command(command, { args }).output();
    return success ? null : new TextDecoder().decode(stderr).trim();
  } catch (error) {
    return (error as Error).message;
  }
}

/** A file system of 8 MiB in memory, mounted at its own folder. */
export async function smallFileSystem(): Promise<AsyncDisposable & { path: string }> {
  const folder = await tempFolder();
  const refused = await run("mount", "-t", "tmpfs", "-o", "size=8m", "fastsafetensors-test", folder.path);
  if (refused !== null) {
    await folder[Symbol.asyncDispose]();
    throw new Error(`Cannot mount a file system: ${refused}`);
  }
  return {
    path: folder.path,
    async [Symbol.asyncDispose]() {
      await run("umount", folder.path);
      await folder[Symbol.asyncDispose]();
    },
  };
}

/** The reason that nothing can be mounted here, or null. */
export async function whyNoMounts(): Promise<string | null> {
  try {
    await using _ = await smallFileSystem();
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}
