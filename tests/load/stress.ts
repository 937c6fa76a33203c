/**
 * Loads that are closed or aborted at random moments: every promise resolves to the written tensor or rejects with the
 * reason, and returned tensors stay unchanged.
 */
import { assert } from "@std/assert";
import { type HostTensor, UseAfterCloseError } from "../../mod.ts";
import { assertTensor, noise, type TensorSpec, writeFile } from "../support/models.ts";
import type { DefineTest, EngineName } from "./context.ts";
import { fastsafeOpen } from "./api_in_use.ts";

/** Defines a test of `rounds` loads. */
export function stressTests(test: DefineTest, engine: EngineName, rounds: number): void {
  if (engine !== "native" && engine !== "portable") return;

  test(`${rounds} loads that are closed or aborted at random moments return the written bytes, or the reason`, async (folder) => {
    const path = `${folder}/model.safetensors`;
    const specs = [100, 70_000, 3_000_000, 0, 40_000, 900_000].map((size, index): TensorSpec => {
      return { name: `${index}`, dtype: "U8", shape: [size] };
    });
    const tensors = await writeFile(path, specs);
    for (let round = 0; round < rounds; round++) {
      const words = new Uint32Array(noise(4 * 64, round + 1).buffer);
      let next = 0;
      const random = (limit: number) => words[next++ % words.length]! % limit;
      const controller = new AbortController();
      const reason = new Error("enough");
      const isExpected = (error: unknown) => error === reason || error instanceof UseAfterCloseError;
      const options = { lazy: random(2) === 0, blockBytes: 4096 << random(8), signal: controller.signal };
      const model = await fastsafeOpen(path, options);
      const given: HostTensor[] = [];
      const wanted = Array.from({ length: 1 + random(12) }, async () => {
        const { name } = tensors[random(tensors.length)]!;
        const tensor = await model.getTensor(name);
        given.push(random(2) === 0 ? tensor : await tensor.copy());
      });
      for (let turn = random(6); turn > 0; turn--) await new Promise((resolve) => setTimeout(resolve, 0));
      if (random(2) === 0) controller.abort(reason);
      const closing = model.close();
      for (const result of await Promise.allSettled(wanted)) {
        assert(result.status === "fulfilled" || isExpected(result.reason), `round ${round}`);
      }
      await closing;
      for (const tensor of given) assertTensor(tensor, tensors.find(({ name }) => name === tensor.name)!);
    }
  });
}
