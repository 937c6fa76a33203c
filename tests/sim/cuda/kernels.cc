/*
 * The host build of native/cuda/kernels/cast.cu, for FST_SIM_KERNELS: the same source that the PTX comes from, compiled as
 * C++. sim.h says what is exported.
 */
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline

struct Index {
  unsigned x;
};
static thread_local Index blockIdx, threadIdx, blockDim, gridDim;

#include "cuda/kernels/cast.cu"

template <typename T>
constexpr char letter() {
  static_assert(sizeof(T) == 8 || sizeof(T) == 4, "sim.h has no letter for this parameter");
  return std::is_pointer<T>::value ? 'P' : sizeof(T) == 8 ? 'Q' : 'I';
}

template <typename... T>
struct Signature {
  char letters[sizeof...(T) + 1];
};

template <typename... T>
constexpr Signature<T...> signature(void (*)(T...)) {
  return {{letter<T>()..., '\0'}};
}

/*
 * Kernels stride over their work by the size of the grid, so a smaller one does the same: four threads for what is
 * small, which show that the strides are right, and one for what is large, which passes over memory only once.
 */
template <typename... T, std::size_t... I>
void run(void (*kernel)(T...), void **parameters, unsigned grid, unsigned block, std::index_sequence<I...>) {
  bool small = (uint64_t)grid * block <= 1024;
  gridDim.x = small && grid > 1 ? 2 : 1;
  blockDim.x = small && block > 1 ? 2 : 1;
  for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) {
    for (threadIdx.x = 0; threadIdx.x < blockDim.x; threadIdx.x++) kernel(*static_cast<T *>(parameters[I])...);
  }
}

template <typename... T>
void run(void (*kernel)(T...), void **parameters, unsigned grid, unsigned block) {
  run(kernel, parameters, grid, block, std::index_sequence_for<T...>());
}

#define EXPORT extern "C" __attribute__((visibility("default")))
#define KERNEL(name)                                                                         \
  EXPORT const decltype(signature(name)) fst_sig_##name;                                     \
  const decltype(signature(name)) fst_sig_##name = signature(name);                          \
  EXPORT void fst_host_##name(void **parameters, unsigned grid_x, unsigned block_x) {        \
    run(name, parameters, grid_x, block_x);                                                  \
  }

KERNEL(fst_cast_elements)
KERNEL(fst_copy_unaligned)
KERNEL(fst_copy_strided)
