/*
 * The strided probe: how fast this machine reads columns of matrices from files into a fresh destination.
 *
 *   columns [-t threads] [-b block bytes] [-w rows|blocks|gather] [-d] [-p] [-r turns] [-o FILE] PLAN FILE...
 *
 *   -w  rows: one pread for the part of a row      blocks: one pread for whole rows, then copies of their parts
 *       gather: one preadv for whole rows, the parts to the destination and the rest to memory that is overwritten
 *   -d  O_DIRECT instead of the page cache: of blocks  -p  touch the destination ahead with one more thread
 *   -o  write the destination of the last turn to this file
 *
 * PLAN is a file with a line for each matrix: the number of its file (from 0), and in bytes the offset of its first row
 * in the file, then its number of rows, and in bytes the length of a row, the start of the columns in a row and their
 * length. The destination has the parts of all rows without gaps.
 *
 * Prints the seconds of each turn, one a line.
 */
#include "probe.h"
#include <sys/uio.h>

/* A band of rows of one matrix, which a thread reads at once: `rows` parts of `length` bytes, `stride` apart. */
struct band {
  int fd;
  uint64_t offset, rows, stride, length, to;
};

#define MOST_PARTS 512 /* of a preadv, which takes at most 1024 ranges */

static struct band *bands;
static uint64_t count, capacity, bytes, largest_band;
static _Atomic uint64_t next;
static char *destination;
static int direct;

static void read_whole(int fd, char *to, uint64_t length, uint64_t offset) {
  if (read_range(fd, to, length, offset) == length) return;
  errno = EINVAL;
  die("a matrix ends behind its file");
}

static void read_rows(const struct band *band, char *unused) {
  (void)unused;
  for (uint64_t row = 0; row < band->rows; row++) {
    char *to = destination + band->to + row * band->length;
    read_whole(band->fd, to, band->length, band->offset + row * band->stride);
  }
}

static void read_block(const struct band *band, char *staging) {
  const uint64_t wanted = (band->rows - 1) * band->stride + band->length;
  const uint64_t lead = direct ? band->offset % PAGE : 0;
  const uint64_t length = direct ? (lead + wanted + PAGE - 1) & ~(PAGE - 1) : wanted;
  if (read_range(band->fd, staging, length, band->offset - lead) < lead + wanted) die("a matrix ends behind its file");
  staging += lead;
  for (uint64_t row = 0; row < band->rows; row++) {
    memcpy(destination + band->to + row * band->length, staging + row * band->stride, band->length);
  }
}

static void gather(const struct band *band, char *staging) {
  struct iovec ranges[2 * MOST_PARTS];
  const uint64_t rest = band->stride - band->length;
  for (uint64_t row = 0; row < band->rows;) {
    uint64_t most = band->rows - row < MOST_PARTS ? band->rows - row : MOST_PARTS;
    for (uint64_t i = 0; i < most; i++) {
      char *to = destination + band->to + (row + i) * band->length;
      ranges[2 * i] = (struct iovec){to, band->length};
      ranges[2 * i + 1] = (struct iovec){staging, rest};
    }
    uint64_t wanted = most * band->stride - rest; /* nothing behind the last part */
    off_t offset = (off_t)(band->offset + row * band->stride);
    if (preadv(band->fd, ranges, (int)(2 * most - 1), offset) != (ssize_t)wanted) die("preadv");
    row += most;
  }
}

static void (*way)(const struct band *band, char *staging);

static void *read_bands(void *unused) {
  (void)unused;
  struct fresh memory = make_fresh(largest_band + 2 * PAGE); /* huge pages and whole pages, for O_DIRECT */
  char *staging = memory.memory;
  for (uint64_t index; (index = atomic_fetch_add(&next, 1)) < count;) way(&bands[index], staging);
  munmap(memory.map, memory.mapped);
  return NULL;
}

static uint64_t reached(void) {
  const uint64_t index = atomic_load(&next);
  return index < count ? bands[index].to : bytes;
}

static double turn(int threads, int populates, const char *output) {
  struct fresh fresh = make_fresh(bytes);
  destination = fresh.memory;
  atomic_store(&next, 0);
  struct ahead ahead = {destination, bytes, reached};
  touch_memory();
  double start = now();
  run_filling(threads, read_bands, populates ? &ahead : NULL);
  double seconds = now() - start;
  if (output) write_output(output, destination, bytes);
  munmap(fresh.map, fresh.mapped);
  return seconds;
}

/* Cuts the matrices into bands of about a block. */
static void read_plan(const char *path, char **files, int file_count, uint64_t block) {
  FILE *plan = fopen(path, "r");
  if (!plan) die(path);
  int *fds = calloc((size_t)file_count, sizeof *fds);
  if (!fds) die("calloc");
  for (int i = 0; i < file_count; i++) {
    if ((fds[i] = open(files[i], O_RDONLY | (direct ? O_DIRECT : 0))) < 0) die(files[i]);
  }
  unsigned long long file, offset, rows, stride, begin, length;
  while (fscanf(plan, "%llu %llu %llu %llu %llu %llu", &file, &offset, &rows, &stride, &begin, &length) == 6) {
    errno = EINVAL;
    if (file >= (unsigned long long)file_count || length == 0 || begin + length > stride) die(path);
    const uint64_t step = block > stride ? block / stride : 1;
    for (uint64_t row = 0; row < rows; row += step) {
      if (count == capacity) {
        capacity = capacity ? 2 * capacity : 1024;
        if (!(bands = realloc(bands, capacity * sizeof *bands))) die("realloc");
      }
      const uint64_t those = rows - row < step ? rows - row : step;
      bands[count++] = (struct band){fds[file], offset + row * stride + begin, those, stride, length, bytes};
      bytes += those * length;
      if (those * stride > largest_band) largest_band = those * stride;
    }
  }
  free(fds);
  fclose(plan);
}

int main(int argc, char **argv) {
  int threads = 2, populates = 0, turns = 1, option;
  uint64_t block = (uint64_t)256 << 10;
  const char *output = NULL, *name = "rows";
  while ((option = getopt(argc, argv, "t:b:w:dpr:o:")) != -1) {
    if (option == 't') threads = atoi(optarg);
    else if (option == 'b') block = strtoull(optarg, NULL, 10);
    else if (option == 'w') name = optarg;
    else if (option == 'd') direct = 1;
    else if (option == 'p') populates = 1;
    else if (option == 'r') turns = atoi(optarg);
    else if (option == 'o') output = optarg;
    else return 2;
  }
  way = strcmp(name, "rows") == 0     ? read_rows
        : strcmp(name, "blocks") == 0 ? read_block
        : strcmp(name, "gather") == 0 ? gather
                                      : NULL;
  if (!way || (direct && way != read_block) || argc - optind < 2 || threads < 1 || threads > MOST_THREADS || block == 0) {
    fprintf(stderr, "usage: columns [-t threads] [-b block bytes] [-w rows|blocks|gather] [-d] [-p] [-r turns] [-o FILE] "
                    "PLAN FILE...\n");
    return 2;
  }
  read_plan(argv[optind], argv + optind + 1, argc - optind - 1, block);
  for (int i = 0; i < turns; i++) printf("%.6f\n", turn(threads, populates, i + 1 == turns ? output : NULL));
  return 0;
}
