/**
 * The ranks of a group meet over TCP: rank 0 listens, the others connect, and rank 0 forwards their messages.
 */
import { GroupError } from "../../base/errors.ts";
import { GroupControl } from "./control.ts";
import type { GroupMessage } from "./hub.ts";
import { JsonConnection } from "./json_connection.ts";
import type { LaunchPlace } from "./launcher.ts";

/** The first message of a rank to rank 0. */
interface Hello {
  readonly secret: string;
  /** Description of the group, the same on all ranks. */
  readonly group: string;
  readonly rank: number;
}

/** The answer of rank 0: why it refuses the rank; null if it does not. */
interface Answer {
  readonly refusal: string | null;
}

/** A message of one rank to another. */
interface Message {
  readonly from: number;
  readonly to: number;
  readonly said: GroupMessage;
}

/** The connections of this process: at rank 0 to all other ranks, elsewhere to rank 0. */
type Peers = Map<number, JsonConnection>;

/** Longest first message, in bytes: a stranger's message takes no more memory than this. */
const HELLO_BYTES = 16 * 1024;
/** Most connections, in addition to one for each rank, whose first message has not arrived. */
const MOST_STRANGERS = 64;
const RETRY_MS = 50;

/**
 * Meets the other ranks at rank 0's address.
 *
 * @throws {GroupError} if a rank does not come within the time, or rank 0 refuses this rank
 */
export async function meetOverTcp(place: LaunchPlace, timeoutSeconds: number): Promise<GroupControl> {
  const { rank, size, address, port } = place;
  const peers: Peers = new Map();
  const close = async () => void await Promise.all(Array.from(peers.values(), (peer) => peer.close()));
  const end = new AbortController();
  const timer = setTimeout(() => end.abort(), timeoutSeconds * 1000);
  let cause: unknown;
  try {
    if (rank > 0) await join(place, peers, end.signal);
    else if (size > 1) await admitAll(place, peers, end);
  } catch (error) {
    if (rank === 0 || !end.signal.aborted) throw error;
    cause = error;
  } finally {
    clearTimeout(timer);
  }
  const expected = rank > 0 ? [0] : Array.from({ length: size - 1 }, (_, index) => index + 1);
  const missing = expected.filter((other) => !peers.has(other));
  if (missing.length > 0) {
    await close();
    const reason = `did not come to ${address}:${port} within ${timeoutSeconds} seconds`;
    const message = `Cannot ${rank > 0 ? "join" : "form"} a group: rank ${missing.join(", ")} ${reason}`;
    throw new GroupError(message, missing[0]!, reason, { cause });
  }
  const deliver = ({ from, to, said }: Message): Promise<void> | void =>
    to === rank ? control.take(from, said) : (peers.get(to) ?? peers.get(0))?.send({ from, to, said });
  const control: GroupControl = new GroupControl(rank, size, timeoutSeconds, {
    tell: (to, said) => deliver({ from: rank, to, said }),
    look: () => {}, // messages are delivered as they arrive
    listen: () => ({ [Symbol.dispose]: () => {} }),
    fail: () => {},
    close,
  });
  for (const [from, connection] of peers) {
    void connection.listen((message) => void deliver(message as Message)).then(() => {
      for (const to of [...peers.keys(), rank]) {
        if (to !== from) void deliver({ from, to, said: { type: "ended" } });
      }
    });
  }
  return control;
}

/** Rank 0 admits ranks until all are here or the time is up. A silent connection does not delay others. */
async function admitAll(place: LaunchPlace, peers: Peers, end: AbortController): Promise<void> {
  const strangers = new Map<JsonConnection, Promise<void>>();
  const listener = listen(place);
  end.signal.addEventListener("abort", () => listener.close());
  try {
    for await (const connection of listener) {
      const stranger = new JsonConnection(connection);
      const admission = admit(stranger, place, peers).finally(() => {
        strangers.delete(stranger);
        if (peers.size === place.size - 1) end.abort();
      });
      strangers.set(stranger, admission);
      if (strangers.size >= MOST_STRANGERS + place.size) strangers.keys().next().value!.drop(); // the oldest
    }
  } finally {
    end.abort();
    for (const stranger of strangers.keys()) stranger.drop();
    await Promise.all(strangers.values());
  }
}

/** Adds a connection to the ranks, or sends the reason for a refusal. */
async function admit(stranger: JsonConnection, place: LaunchPlace, peers: Peers): Promise<void> {
  const hello = await stranger.receive(HELLO_BYTES).catch(() => null) as Partial<Hello> | null;
  // The comparison of digests takes the same time for every secret.
  const knowsSecret = await digest(String(hello?.secret)) === await digest(place.secret);
  const rank = hello?.rank as number, group = describe(place);
  const refusal = !knowsSecret
    ? "rank 0 has another secret: give all ranks the same one, by the option secret or FASTSAFETENSORS_GROUP_SECRET"
    : hello?.group !== group
    ? `rank 0 belongs to ${group}, this rank to ${hello?.group ?? "another program"}`
    : !Number.isInteger(rank) || rank < 1 || rank >= place.size || peers.has(rank)
    ? `there is no place for another rank ${rank}`
    : null;
  if (refusal === null) peers.set(rank, stranger); // before the next await: another connection may give the same rank
  await stranger.send({ refusal } satisfies Answer);
  if (refusal !== null) stranger.drop();
}

function describe({ job, size }: LaunchPlace): string {
  return `job ${JSON.stringify(job)} of ${size} ranks (protocol 3)`;
}

async function digest(text: string): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))).toHex();
}

/** Listens at rank 0's address only, because an admitted process takes part in the group's calls. */
function listen({ address, port }: LaunchPlace): Deno.TcpListener {
  try {
    const listener = Deno.listen({ hostname: address, port });
    if (!["0.0.0.0", "::", "::ffff:0.0.0.0"].includes(listener.addr.hostname)) return listener;
    listener.close();
    throw new Deno.errors.AddrNotAvailable("the address means all addresses of a machine");
  } catch (cause) {
    const { AddrInUse, AddrNotAvailable } = Deno.errors;
    const known = [AddrInUse, AddrNotAvailable].find((type) => cause instanceof type);
    if (!known) throw cause;
    const advice = "give all ranks an address of rank 0's machine and a free port there, by the options " +
      "address and port or MASTER_ADDR and MASTER_PORT";
    const action = `Cannot meet the other ranks at ${address}:${port}`;
    throw new known(`${action}: ${(cause as Error).message}; ${advice}`, { cause });
  }
}

/** Another rank connects to rank 0, as soon as that listens, and waits for its answer. */
async function join(place: LaunchPlace, peers: Peers, end: AbortSignal): Promise<void> {
  const { secret, rank, address, port } = place;
  const connection = await connect(place, end);
  end.addEventListener("abort", () => connection.drop());
  await connection.send({ secret, group: describe(place), rank } satisfies Hello);
  const answer = await connection.receive(HELLO_BYTES).catch(() => null) as Answer | null;
  if (answer?.refusal === null) return void peers.set(0, connection);
  connection.drop();
  end.throwIfAborted();
  const reason = answer?.refusal ?? `the process that listens at ${address}:${port} is not rank 0`;
  throw new GroupError(`Cannot join a group: ${reason}`, 0, reason);
}

/** Connects to rank 0. When the time is up, it throws the last error. */
async function connect({ address, port }: LaunchPlace, end: AbortSignal): Promise<JsonConnection> {
  for (;;) {
    try {
      return new JsonConnection(await Deno.connect({ hostname: address, port, signal: end }));
    } catch (error) {
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      if (error instanceof Deno.errors.NotCapable || end.aborted) throw error;
    }
  }
}
