/*
 * The cast probe: how fast this machine reads these files and casts them from BF16 to F32 into a fresh destination.
 *
 *   cast [-t threads] [-b block bytes] [-d] [-p] [-s] [-r turns] [-o FILE] FILE...
 *
 *   -d  O_DIRECT instead of the page cache      -p  touch the destination ahead with one more thread
 *   -s  streaming stores (x86-64), which leave the caches alone
 *   -o  write the destination of the last turn to this file
 *
 * Prints the seconds of each turn, one a line. A thread reads a block into memory of its own, which stays in the cache
 * of its core if the block is small enough, and casts it to the destination with AVX-512, AVX2 or what the compiler
 * makes of a loop. All bytes of a file count as BF16, also its header, which is a few kilobytes. Files are not mapped:
 * a loader cannot do that either, since a file that becomes shorter would end its process.
 */
#include "probe.h"

static struct blocks blocks;
static char *destination;

/* Casts `count` elements, a multiple of 32, between addresses that are multiples of 64. */
typedef void cast_function(uint32_t *to, const uint16_t *from, uint64_t count);

static void cast_plain(uint32_t *restrict to, const uint16_t *restrict from, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) to[i] = (uint32_t)from[i] << 16;
}

#ifdef __x86_64__
#include <immintrin.h>

#define AVX2(name, store)                                                                       \
  __attribute__((target("avx2"))) static void name(uint32_t *to, const uint16_t *from, uint64_t count) { \
    for (uint64_t i = 0; i < count; i += 8) {                                                   \
      __m256i wide = _mm256_cvtepu16_epi32(_mm_load_si128((const __m128i *)(from + i)));        \
      store((__m256i *)(to + i), _mm256_slli_epi32(wide, 16));                                  \
    }                                                                                           \
    _mm_sfence();                                                                               \
  }
AVX2(cast_avx2, _mm256_store_si256)
AVX2(stream_avx2, _mm256_stream_si256)

#define AVX512(name, store)                                                                     \
  __attribute__((target("avx512f"))) static void name(uint32_t *to, const uint16_t *from, uint64_t count) { \
    for (uint64_t i = 0; i < count; i += 16) {                                                  \
      __m512i wide = _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)(from + i)));     \
      store((__m512i *)(to + i), _mm512_slli_epi32(wide, 16));                                  \
    }                                                                                           \
    _mm_sfence();                                                                               \
  }
AVX512(cast_avx512, _mm512_store_si512)
AVX512(stream_avx512, _mm512_stream_si512)

static cast_function *choose(int streams) {
  if (__builtin_cpu_supports("avx512f")) return streams ? stream_avx512 : cast_avx512;
  if (__builtin_cpu_supports("avx2")) return streams ? stream_avx2 : cast_avx2;
  return cast_plain;
}
#else
static cast_function *choose(int streams) {
  (void)streams;
  return cast_plain;
}
#endif

static cast_function *cast;

static void *cast_blocks(void *unused) {
  (void)unused;
  char *staging = aligned_alloc(PAGE, blocks.block);
  if (!staging) die("aligned_alloc");
  struct block block;
  while (take_block(&blocks, &block)) {
    uint64_t got = read_range(block.fd, staging, block.length, block.offset);
    memset(staging + got, 0, block.length - got); /* behind the end of the file */
    cast((uint32_t *)(destination + 2 * block.at), (const uint16_t *)staging, block.length / 2);
  }
  free(staging);
  return NULL;
}

static uint64_t reached(void) {
  return 2 * atomic_load(&blocks.next) * blocks.block;
}

static double turn(int threads, int populates, const char *output) {
  struct fresh fresh = make_fresh(2 * blocks.bytes);
  destination = fresh.memory;
  atomic_store(&blocks.next, 0);
  struct ahead ahead = {destination, 2 * blocks.bytes, reached};
  touch_memory();
  double start = now();
  run_filling(threads, cast_blocks, populates ? &ahead : NULL);
  double seconds = now() - start;
  if (output) write_output(output, destination, 2 * blocks.bytes);
  munmap(fresh.map, fresh.mapped);
  return seconds;
}

int main(int argc, char **argv) {
  int threads = 2, direct = 0, populates = 0, streams = 0, turns = 1, option;
  uint64_t block = (uint64_t)256 << 10;
  const char *output = NULL;
  while ((option = getopt(argc, argv, "t:b:dpsr:o:")) != -1) {
    if (option == 't') threads = atoi(optarg);
    else if (option == 'b') block = strtoull(optarg, NULL, 10);
    else if (option == 'd') direct = 1;
    else if (option == 'p') populates = 1;
    else if (option == 's') streams = 1;
    else if (option == 'r') turns = atoi(optarg);
    else if (option == 'o') output = optarg;
    else return 2;
  }
  if (argc - optind < 1 || threads < 1 || threads > MOST_THREADS || block < PAGE || block % PAGE != 0) {
    fprintf(stderr, "usage: cast [-t threads] [-b block bytes] [-d] [-p] [-s] [-r turns] [-o FILE] FILE...\n");
    return 2;
  }
  cast = choose(streams);
  open_blocks(&blocks, argv + optind, argc - optind, block, direct ? O_DIRECT : 0);
  for (int i = 0; i < turns; i++) printf("%.6f\n", turn(threads, populates, i + 1 == turns ? output : NULL));
  return 0;
}
