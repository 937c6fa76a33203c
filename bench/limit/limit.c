/*
 * The limit probe: how fast this machine brings these files into a fresh destination, by nothing but pread.
 *
 *   limit [-t threads] [-b block bytes] [-d] [-p] [-r turns] FILE...
 *
 *   -d  O_DIRECT instead of the page cache      -p  touch the destination ahead with one more thread
 *
 * Prints the seconds of each turn, one a line. The destination is new huge-page memory in every turn, mapped before
 * the clock starts and first touched while it runs, as a loader's is.
 */
#include "probe.h"

static struct blocks blocks;
static char *destination;

static void *read_blocks(void *unused) {
  (void)unused;
  struct block block;
  while (take_block(&blocks, &block)) {
    read_range(block.fd, destination + block.at, block.length, block.offset);
  }
  return NULL;
}

static uint64_t reached(void) {
  return atomic_load(&blocks.next) * blocks.block;
}

static double turn(int threads, int populates) {
  struct fresh fresh = make_fresh(blocks.bytes);
  destination = fresh.memory;
  atomic_store(&blocks.next, 0);
  struct ahead ahead = {destination, blocks.bytes, reached};
  touch_memory();
  double start = now();
  run_filling(threads, read_blocks, populates ? &ahead : NULL);
  double seconds = now() - start;
  munmap(fresh.map, fresh.mapped);
  return seconds;
}

int main(int argc, char **argv) {
  int threads = 2, direct = 0, populates = 0, turns = 1, option;
  uint64_t block = (uint64_t)4 << 20;
  while ((option = getopt(argc, argv, "t:b:dpr:")) != -1) {
    if (option == 't') threads = atoi(optarg);
    else if (option == 'b') block = strtoull(optarg, NULL, 10);
    else if (option == 'd') direct = 1;
    else if (option == 'p') populates = 1;
    else if (option == 'r') turns = atoi(optarg);
    else return 2;
  }
  if (argc - optind < 1 || threads < 1 || threads > MOST_THREADS || block < PAGE || block % PAGE != 0) {
    fprintf(stderr, "usage: limit [-t threads] [-b block bytes] [-d] [-p] [-r turns] FILE...\n");
    return 2;
  }
  open_blocks(&blocks, argv + optind, argc - optind, block, direct ? O_DIRECT : 0);
  for (int i = 0; i < turns; i++) printf("%.6f\n", turn(threads, populates));
  return 0;
}
