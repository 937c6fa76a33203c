/**
 * A program for permissions_test.ts: the library is available only after a first load without it.
 * Prints the engine of each load.
 */
import { fastsafeOpen, prepare } from "../../mod.ts";

const [how, path, library] = Deno.args as [string, string, string];

async function load(): Promise<string> {
  await using model = await fastsafeOpen(path);
  await model.whenLoaded();
  return model.stats().path === "portable" ? "portable" : "native";
}

const ways: string[] = [];
if (how === "permission") {
  // Like a user who grants FFI later; a program cannot do that itself.
  const { querySync } = Deno.permissions;
  const denied = (descriptor: Deno.PermissionDescriptor) =>
    descriptor.name === "ffi"
      ? { state: "prompt" } as Deno.PermissionStatus
      : querySync.call(Deno.permissions, descriptor);
  Deno.permissions.querySync = denied;
  ways.push(await load(), await load());
  Deno.permissions.querySync = querySync;
  ways.push(await load());
} else {
  ways.push(await load());
  Deno.env.set("FASTSAFETENSORS_LIB", library);
  ways.push(await load());
  ways.push(await prepare(), await load());
}
console.log(ways.join(" "));
