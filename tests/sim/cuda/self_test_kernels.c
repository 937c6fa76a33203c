/* Host builds of the kernels in the self test's PTX, as sim.h asks for them. */
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))
#define KERNEL(name, letters) \
  EXPORT extern const char fst_sig_##name[]; \
  const char fst_sig_##name[] = letters; \
  EXPORT void fst_host_##name(void **parameters, unsigned grid_x, unsigned block_x); \
  void fst_host_##name(void **parameters, unsigned grid_x, unsigned block_x)

/* out[i] = in[i] + add, for every thread whose i is below count. */
KERNEL(add_bytes, "PPQI") {
  uint8_t *out = *(uint8_t **)parameters[0];
  const uint8_t *in = *(const uint8_t **)parameters[1];
  uint64_t count = *(const uint64_t *)parameters[2];
  uint32_t add = *(const uint32_t *)parameters[3];
  for (uint64_t i = 0; i < (uint64_t)grid_x * block_x && i < count; i++) out[i] = (uint8_t)(in[i] + add);
}

/* Writes the byte before its memory. */
KERNEL(clear_before, "P") {
  (void)grid_x, (void)block_x;
  (*(uint8_t **)parameters[0])[-1] = 0;
}

/* Its signature in the PTX is another. */
KERNEL(changed, "PQ") {
  (void)parameters, (void)grid_x, (void)block_x;
}
