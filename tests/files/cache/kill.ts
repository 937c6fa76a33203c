/**
 * Kills processes that fill a cache at random moments, and checks the cache after each: nothing counts as whole or as
 * there that is not, and nothing is fetched twice that was there.
 *
 *   deno run -A tests/files/cache/kill.ts [ROUNDS]
 */
import { Buffer } from "node:buffer";
import { assert, assertEquals } from "@std/assert";
import { startCliWith } from "../../cli/support.ts";
import type { Received } from "../../support/faulty_server.ts";
import { COMMIT, HubScene, ID } from "./hub_model.ts";

/** What the rounds have shown. */
export interface KillResult {
  rounds: number;
  /** Processes that were killed; the others had ended before. */
  killed: number;
  /** Caches that were filled to the end. */
  completed: number;
  /** Bytes of the shards that were asked for. */
  requested: number;
  /** Bytes that were asked for although the cache had them. */
  repeated: number;
  /** Bytes that had been asked for by a killed process, and that the cache did not have then. */
  lost: number;
}

type Span = [start: number, stop: number];

/** Rows of a tensor: a shard has 16 MiB. */
const ROWS = 1024;

/** Runs the rounds; throws if the cache is wrong after one. */
export async function killRounds(rounds: number): Promise<KillResult> {
  await using scene = await HubScene.make(ROWS);
  const result: KillResult = { rounds, killed: 0, completed: 0, requested: 0, repeated: 0, lost: 0 };
  for (let round = 0; round < rounds; round++) {
    const before = await keptOf(scene);
    const wasKilled = await runAndKill(scene);
    if (wasKilled) result.killed++;
    const asked = scene.takeRequests().filter(({ first, last }) => last > first); // an opening asks for one byte
    const after = await keptOf(scene);
    for (const shard of scene.shards) {
      const spans = asked.filter((request) => request.shard === shard.name).map(({ first, last }): Span => {
        return [first, Math.min(last + 1, shard.bytes.length)];
      });
      const kept = before.get(shard.name)!;
      result.requested += spans.reduce((sum, [start, stop]) => sum + stop - start, 0);
      result.repeated += common(spans, kept);
      result.lost += spans.reduce((sum, [start, stop]) => sum + stop - start, 0) -
        common(spans, after.get(shard.name)!);
      assertEquals(common(kept, after.get(shard.name)!), lengthOf(kept), "bytes that were there stay there");
    }
    if (!wasKilled) {
      for (const { name, bytes } of scene.shards) {
        assert(equal(await Deno.readFile(`${scene.repo}/snapshots/${COMMIT}/${name}`), bytes), name);
      }
      result.completed++;
      await Deno.remove(scene.repo, { recursive: true });
    }
  }
  return result;
}

/** Loads or fetches the model in another process, and kills it at a random moment; returns whether it was killed. */
async function runAndKill(scene: HubScene): Promise<boolean> {
  const command = Math.random() < 0.5 ? ["fetch"] : ["load", "--block-bytes", "512KiB"];
  const child = startCliWith(scene.env, ...command, `hf://${ID}`, "--json");
  let timer: ReturnType<typeof setTimeout> | undefined;
  const kill = () => {
    try {
      child.kill("SIGKILL");
    } catch {
      // it has ended
    }
  };
  // Mostly while bytes come; else at any time, from the start to the checksums and renames.
  const requests = Math.random() < 0.7 ? 1 + Math.floor(Math.random() * 12) : Infinity;
  if (requests === Infinity) timer = setTimeout(kill, Math.random() * 4000);
  let seen = 0;
  scene.server.fault = (request: Received) => {
    if (request.range && ++seen === requests) timer = setTimeout(kill, Math.random() * 30);
    return null;
  };
  const { code, signal, stderr } = await child.output();
  clearTimeout(timer);
  if (signal === "SIGKILL") return true;
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  return false;
}

/** What the cache has of each shard; throws if it is wrong. */
async function keptOf(scene: HubScene): Promise<Map<string, Span[]>> {
  const kept = new Map<string, Span[]>();
  for (const { name, bytes } of scene.shards) {
    const spans: Span[] = [];
    const pointer = `${scene.repo}/snapshots/${COMMIT}/${name}`;
    const whole = await Deno.readFile(pointer).catch(() => null);
    if (whole) {
      assert(equal(whole, bytes), `${name} counts as whole and is not`);
      spans.push([0, bytes.length]);
    }
    kept.set(name, spans);
  }
  const digests = new Map(
    await Promise.all(scene.shards.map(async ({ name, bytes }) => {
      return [new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex(), name] as const;
    })),
  );
  const blobs = await namesIn(`${scene.repo}/blobs`);
  for (const blob of blobs) {
    const name = digests.get(blob);
    if (name === undefined) continue; // the index
    const { bytes } = scene.shards.find((shard) => shard.name === name)!;
    assert(equal(await Deno.readFile(`${scene.repo}/blobs/${blob}`), bytes), `blob ${blob} is not whole`);
    kept.set(name, [[0, bytes.length]]);
  }
  const folder = `${scene.repo}/.fastsafetensors`;
  for (const map of (await namesIn(folder)).filter((name) => name.endsWith(".map"))) {
    const [blob, token] = map.split(".");
    const name = digests.get(blob!);
    if (name === undefined) continue;
    const { bytes } = scene.shards.find((shard) => shard.name === name)!;
    const part = await Deno.readFile(`${folder}/${blob}.${token}.part`).catch(() => null);
    if (!part || part.length !== bytes.length) continue;
    const lines = (await Deno.readTextFile(`${folder}/${map}`)).split("\n").slice(1, -1);
    for (const line of lines) {
      if (line.startsWith("synced")) continue;
      const [offset, length] = line.split(" ").map(Number) as [number, number];
      assert(
        equal(part.subarray(offset, offset + length), bytes.subarray(offset, offset + length)),
        `${map}: ${line}`,
      );
      kept.get(name)!.push([offset, offset + length]);
    }
  }
  return kept;
}

async function namesIn(folder: string): Promise<string[]> {
  return await Array.fromAsync(Deno.readDir(folder), ({ name }) => name).catch(() => []);
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}

/** Joined spans, in order. */
function joined(spans: readonly Span[]): Span[] {
  const result: Span[] = [];
  for (const [start, stop] of spans.toSorted(([a], [b]) => a - b)) {
    const last = result.at(-1);
    if (last && start <= last[1]) last[1] = Math.max(last[1], stop);
    else result.push([start, stop]);
  }
  return result;
}

function lengthOf(spans: readonly Span[]): number {
  return joined(spans).reduce((sum, [start, stop]) => sum + stop - start, 0);
}

/** Bytes that two sets have in common. */
function common(a: readonly Span[], b: readonly Span[]): number {
  return lengthOf(a) + lengthOf(b) - lengthOf([...a, ...b]);
}

if (import.meta.main) console.log(await killRounds(Number(Deno.args[0] ?? 200)));
