/**
 * A program for files/cache/load_long_test.ts: loads a model of the Hub through a cache, and prints its way and its notes.
 */
import { fastsafeOpen } from "../../mod.ts";

const [name, endpoint, cache] = Deno.args as [string, string, string];
const model = await fastsafeOpen(name, { network: { hub: { endpoint } }, cache });
await model.whenLoaded();
await model.close();
const { path, notes } = model.stats();
console.log(JSON.stringify({ path, notes: notes.filter((note) => note.includes("cache")) }));
