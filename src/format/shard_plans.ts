/**
 * Shard plans for models with the tensor names of the Hugging Face Hub.
 *
 * The rules are those of Megatron-LM (Shoeybi et al. 2019, section 3), which transformers' tensor parallel plans and
 * vLLM follow: the first matrix of a pair is cut by its outputs ("column parallel"), the second by its inputs ("row
 * parallel"), so that ranks do not communicate between the two, and only sum the results.
 * Embeddings and the output matrix are cut by the vocabulary. A bias belongs to the outputs: the bias of a column
 * parallel matrix is cut; the bias of a row parallel matrix is whole and added once. Norms and routers are whole.
 *
 * A Linear layer stores [outputs, inputs]: column parallel is dimension 0, row parallel dimension 1. GPT-2's Conv1D
 * stores [inputs, outputs]: there the dimensions are reversed.
 *
 * Blocks have `ceil(n / size)` elements: heads stay whole if their number is a multiple of the number of ranks; with
 * grouped queries, the number of key and value heads counts.
 */
import type { ShardPlan } from "./shard_plan.ts";

/** Source: `LlamaConfig.base_model_tp_plan` of transformers, with the vocabulary cut as in Megatron-LM and vLLM. */
const ATTENTION_AND_VOCABULARY: ShardPlan = {
  "*.self_attn.q_proj.weight": 0,
  "*.self_attn.k_proj.weight": 0,
  "*.self_attn.v_proj.weight": 0,
  "*.self_attn.o_proj.weight": 1,
  // Qwen2 has these biases; a bias of o_proj would be whole.
  "*.self_attn.q_proj.bias": 0,
  "*.self_attn.k_proj.bias": 0,
  "*.self_attn.v_proj.bias": 0,
  "*embed_tokens.weight": 0,
  "*lm_head.weight": 0,
};

/** For models named like Llama: Llama, Mistral, Qwen2, Qwen3, Gemma, Yi and others. */
export const LLAMA_SHARDS: ShardPlan = {
  ...ATTENTION_AND_VOCABULARY,
  "*.mlp.gate_proj.weight": 0,
  "*.mlp.up_proj.weight": 0,
  "*.mlp.down_proj.weight": 1,
  "*.mlp.gate_proj.bias": 0,
  "*.mlp.up_proj.bias": 0,
};

/**
 * For models named like Mixtral: every rank has a part of every expert. Source: `MixtralConfig.base_model_tp_plan` of
 * transformers; w1 and w3 are the gate and up matrices, w2 is the down matrix, and the router (`gate`) is whole.
 */
export const MIXTRAL_SHARDS: ShardPlan = {
  ...ATTENTION_AND_VOCABULARY,
  "*.block_sparse_moe.experts.*.w1.weight": 0,
  "*.block_sparse_moe.experts.*.w3.weight": 0,
  "*.block_sparse_moe.experts.*.w2.weight": 1,
};

/**
 * For models named like GPT-2. c_attn holds queries, keys and values side by side: each of the three is cut separately,
 * as in Megatron-LM, so that a rank has the queries, keys and values of the same heads. Positions are whole.
 */
export const GPT2_SHARDS: ShardPlan = {
  "*.attn.c_attn.weight": { dimension: 1, parts: 3 },
  "*.attn.c_attn.bias": { dimension: 0, parts: 3 },
  "*.attn.c_proj.weight": 0,
  "*.mlp.c_fc.weight": 1,
  "*.mlp.c_fc.bias": 0,
  "*.mlp.c_proj.weight": 0,
  "*wte.weight": 0,
  "*lm_head.weight": 0,
};
