/*
 * The CUDA kernels of cast.cu, built by a C++ compiler, with the threads of a launch run one after another: tests
 * their arithmetic against fst_cast, and their addressing at every alignment, but not how a device runs them.
 */
#define __global__
#define __device__
#define __forceinline__ inline

struct Dimension {
  unsigned x;
};
static Dimension blockIdx, blockDim, gridDim, threadIdx;

#include "cast/cast.h"
#include "cast_expect.h"
#include "cuda/kernels/cast.cu"

#include <vector>

static unsigned long checks, failures;

static void expect(bool holds, const char *what, unsigned long long a, unsigned long long b) {
  checks++;
  if (!holds && failures++ < 20) fprintf(stderr, "%s: wrong at %llu, %llu\n", what, a, b);
}

template <typename... Parameters, typename... Arguments>
static void launch(void (*kernel)(Parameters...), unsigned blocks, unsigned threads, Arguments... arguments) {
  gridDim.x = blocks;
  blockDim.x = threads;
  for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) {
    for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++) kernel(arguments...);
  }
}

/* Bytes that start `shift` bytes after a 16-byte boundary and end with their memory, for a sanitizer. */
struct Bytes {
  uint8_t *memory, *at;
  Bytes(size_t length, size_t shift) {
    memory = static_cast<uint8_t *>(malloc(length + shift > 0 ? length + shift : 1));
    if (memory == nullptr) abort();
    at = memory + shift;
  }
  Bytes(const Bytes &) = delete;
  ~Bytes() { free(memory); }
};

static void check_casts() {
  for (int from = 0; from < FLOATS; from++) {
    const uint32_t from_dtype = float_dtypes[from];
    const size_t in_size = dtype_bytes(from_dtype);
    size_t count;
    uint8_t *codes = codes_to_try(from_dtype, &count);
    for (int to = 0; to < FLOATS; to++) {
      if (to == from) continue;
      const uint32_t to_dtype = float_dtypes[to];
      const size_t out_size = dtype_bytes(to_dtype);
      std::vector<uint8_t> expected(count * out_size);
      fst_cast(expected.data(), codes, count, to_dtype, from_dtype);
      /* All codes four at a time, all of them one at a time; then few at every alignment. */
      for (size_t shift = 0; shift < 10; shift++) {
        for (size_t length : {count, count - 1, (size_t)1, (size_t)3, (size_t)4, (size_t)129}) {
          if (shift > 1 && length > 129) continue;
          const size_t start = (count - length) / 2;
          Bytes source(length * in_size, shift), destination(length * out_size, shift * 3 % 8);
          memcpy(source.at, codes + start * in_size, length * in_size);
          launch(fst_cast_elements, 3, 32, destination.at, source.at, (uint64_t)length, to_dtype, from_dtype);
          for (size_t i = 0; i < length; i++) {
            expect(memcmp(destination.at + i * out_size, &expected[(start + i) * out_size], out_size) == 0,
                   float_names[to], (unsigned long long)from, code_at(codes, start + i, in_size));
          }
        }
      }
    }
    free(codes);
  }
}

static void check_copies() {
  for (size_t length = 0; length < 300; length += length < 70 ? 1 : 23) {
    for (size_t from = 0; from < 20; from++) {
      for (size_t to = 0; to < 20; to++) {
        Bytes source(length, from), destination(length + 16, to);
        for (size_t i = 0; i < length; i++) source.at[i] = (uint8_t)(i * 7 + 1);
        memset(destination.at, 0xee, length + 16);
        launch(fst_copy_unaligned, 2, 8, destination.at, source.at, (uint64_t)length);
        expect(memcmp(destination.at, source.at, length) == 0, "copy", length, from * 100 + to);
        for (size_t i = length; i < length + 16; i++) expect(destination.at[i] == 0xee, "beyond", length, to);
      }
    }
  }
}

static void check_runs() {
  for (size_t run : {1, 2, 6, 8, 16, 20, 48}) {
    for (size_t inner = 1; inner < 4; inner++) {
      for (size_t outer = 1; outer < 4; outer++) {
        for (size_t gap : {0, 1, 2, 4, 16}) {
          for (size_t shift : {0, 1, 2, 4}) {
            const size_t inner_stride = run + gap, outer_stride = inner * inner_stride + 2 * gap;
            const size_t span = (outer - 1) * outer_stride + (inner - 1) * inner_stride + run;
            const size_t length = outer * inner * run;
            Bytes source(span, shift), destination(length, 0);
            for (size_t i = 0; i < span; i++) source.at[i] = (uint8_t)(i * 5 + 3);
            launch(fst_copy_strided, 2, 8, destination.at, source.at, (uint64_t)run, (uint64_t)outer,
                   (uint64_t)outer_stride, (uint64_t)inner, (uint64_t)inner_stride);
            for (size_t i = 0; i < length; i++) {
              const size_t row = i / run;
              const size_t at = row / inner * outer_stride + row % inner * inner_stride + i % run;
              expect(destination.at[i] == source.at[at], "runs", run * 100 + gap, i);
            }
          }
        }
      }
    }
  }
}

int main() {
  check_casts();
  check_copies();
  check_runs();
  printf("kernels_test: %lu checks, %lu failed\n", checks, failures);
  return failures != 0;
}
