/** One rank that makes a group, or says why it cannot. */
import { MpiGroup } from "../../../src/ranks/group/mpi_group.ts";
import { say } from "./say.ts";

const rank = Number(Deno.env.get("OMPI_COMM_WORLD_RANK") ?? Deno.env.get("PMI_RANK") ?? 0);
try {
  await using group = await MpiGroup.create({ timeoutSeconds: 20 });
  await group.barrier();
  // No machine has device 99.
  const device = await group.broadcast({ devicePointer: 4096n, byteLength: 4, device: 99 }, 0)
    .then(() => "", (error) => `${error.name}: ${error.message}`);
  say({ rank, size: group.size, family: group.family, library: group.library, device });
} catch (error) {
  const { name, message, library } = error as Error & { library?: string };
  say({ rank, name, message, library });
}
