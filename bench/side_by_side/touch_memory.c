/*
 * Touches so many bytes of new memory and gives them back: touch_memory BYTES. Contenders run it right before their clock
 * starts.
 *
 * A virtual machine that returns free memory to its host gets it back page by page, at several times the price of a
 * first touch on hardware: whoever is measured after a pause, or after one that needed less, would pay for that.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE ((uint64_t)4096)

int main(int argc, char **argv) {
  const uint64_t bytes = argc == 2 ? strtoull(argv[1], NULL, 10) : 0;
  if (bytes == 0) {
    fprintf(stderr, "usage: touch_memory BYTES\n");
    return 2;
  }
  volatile char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) {
    perror("touch_memory");
    return 1;
  }
  madvise((void *)map, bytes, MADV_HUGEPAGE);
  for (uint64_t at = 0; at < bytes; at += PAGE) map[at] = 1;
  return 0;
}
