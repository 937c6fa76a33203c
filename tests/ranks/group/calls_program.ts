/**
 * One rank that makes every call there is, and says what it got. Arguments: bytes of a piece.
 */
import { PIECE } from "../../../ffi/group_call.ts";
import { MpiGroup } from "../../../src/ranks/group/mpi_group.ts";
import type { Json } from "../../../src/ranks/group/process_group.ts";
import { digest, pattern } from "./ranks.ts";
import { say } from "./say.ts";

/** Lengths of broadcasts: none, one byte, around a piece of 1000, several pieces. */
export const LENGTHS = [0, 1, 999, 1000, 1001, 5003];

/** Blocks of one call, from all ranks in turns: more than a call keeps alive, two of them in one buffer. */
export function manyLengths(size: number): { root: number; length: number }[] {
  return Array.from({ length: 30 }, (_, index) => {
    return { root: (index * 5) % 7 % size, length: index % 6 === 0 ? 0 : index * 457 };
  });
}

/** Lengths of a scatter: uneven, and nothing for some. */
export function scatterLengths(size: number, root: number): number[] {
  return Array.from({ length: size }, (_, rank) => (rank + root) % 3 === 1 ? 0 : 700 * (rank + 1) + root);
}

async function run(): Promise<void> {
  PIECE.bytes = Number(Deno.args[0]);
  await using group = await MpiGroup.create({ timeoutSeconds: 60 });
  const { rank, size } = group;
  const said: Record<string, Json> = { rank, size, kind: group.kind, family: group.family };

  const broadcasts: string[] = [];
  for (let root = 0; root < size; root++) {
    for (const length of LENGTHS) {
      const block = rank === root ? pattern(root + 1, length) : new Uint8Array(length).fill(0xee);
      await group.broadcast(block, root, `from ${root}`);
      broadcasts.push(await digest(block));
    }
  }
  said.broadcasts = broadcasts;

  const shared = new Uint8Array(30_000).fill(0xee);
  const many = manyLengths(size).map(({ root, length }, index) => {
    const block = index === 20
      ? shared.subarray(11, 11 + length)
      : index === 21
      ? shared.subarray(20_000, 20_000 + length)
      : new Uint8Array(length);
    if (rank === root) block.set(pattern(index + 70, length));
    return { block, root, label: `block ${index}` };
  });
  await group.broadcastAll(many);
  said.many = await Promise.all(many.map(({ block }) => digest(block)));
  said.between = [10, 11 + 20 * 457, 19_999, 20_000 + 21 * 457].map((index) => shared[index]!);
  await group.broadcastAll([]);

  const scatters: string[] = [];
  for (let root = 0; root < size; root++) {
    const lengths = scatterLengths(size, root);
    const receive = new Uint8Array(lengths[rank]!).fill(0xee);
    const block = pattern(root + 40, lengths.reduce((sum, length) => sum + length, 0));
    await group.scatter(rank === root ? { block, lengths } : null, receive, root);
    scatters.push(await digest(receive));
  }
  said.scatters = scatters;

  // Each rank sends to the next, those of even rank first; a part in the middle of a larger buffer.
  const next = (rank + 1) % size;
  const previous = (rank + size - 1) % size;
  const received = new Uint8Array(3010).fill(0xee);
  const part = received.subarray(5, 3005);
  const send = () => group.send(pattern(rank + 90, 3000), next, 7);
  const receive = () => group.receive(part, previous, 7);
  if (size > 1) {
    // In a ring of odd length the last rank, though even, receives first: rank 0 sends to nobody else.
    if (rank % 2 === 0 && rank !== size - 1 || size % 2 === 0 && rank % 2 === 0) await send().then(receive);
    else await receive().then(send);
    said.ring = await digest(received);
  }

  said.gathered = await group.allGather({ rank, text: "é".repeat(rank), list: [rank, null, true] });
  // Longer than one message between processes.
  const long = await group.allGather("\u20ac".repeat(60_000 * (rank + 1)));
  said.long = long.map((text) => /^\u20ac*$/.test(text as string) ? (text as string).length : -1);
  said.early = await group.allGather(Date.now());

  // Only the last rank comes late: nobody is through before it, and the event loop goes on meanwhile.
  let ticks = 0;
  const ticking = setInterval(() => ticks++, 10);
  if (rank === size - 1) await new Promise((resolve) => setTimeout(resolve, 300));
  const came = Date.now();
  await group.barrier();
  said.barrier = { came, left: Date.now(), ticks };
  clearInterval(ticking);

  // Called at once, done in order.
  const order: number[] = [];
  const blocks = [0, 1, 2, 3].map((index) => rank === 0 ? pattern(index, 100) : new Uint8Array(100));
  await Promise.all(
    blocks.map((block, index) => group.broadcast(block, 0, `${index}`).then(() => order.push(index))),
  );
  said.order = order;
  said.inOrder = await Promise.all(blocks.map(digest));

  const part2 = await group.split(rank % 2, -rank);
  const block = part2.rank === 0 ? pattern(rank + 60, 2500) : new Uint8Array(2500);
  await part2.broadcast(block, 0);
  said.split = { rank: part2.rank, size: part2.size, digest: await digest(block) };
  await part2.close();

  // A rank that is through with a call of all sends before another one, which has waited longer, knows that it is.
  for (let round = 0; round < 60 && size > 1; round++) {
    const [from, to] = [round % size, (round + 1) % size];
    if (rank === from) await new Promise((resolve) => setTimeout(resolve, 3));
    await group.agree({ ok: true }, `round ${round}`);
    if (rank === from) await group.send(pattern(round, 16), to);
    if (rank === to) await group.receive(new Uint8Array(16), from);
  }

  await group.agree({ ok: true });
  const refusal = await group.agree(rank === size - 1 ? { ok: false, message: "no memory" } : { ok: true })
    .then(() => null, (error) => ({ name: error.name, rank: error.rank, reason: error.reason }));
  await group.barrier("after the refusal");
  said.refusal = refusal;

  // More groups than a library has room for at once, were they not given back.
  for (let made = 0; made < 40; made++) await (await group.split(0)).close();
  say(said);
}

if (import.meta.main) await run();
