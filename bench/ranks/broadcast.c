/*
 * What MPI itself takes: broadcasts blocks as a loader does, each from the rank that has it into fresh memory of the
 * others, on huge pages. Arguments: rank and bytes of each block, in turns. Prints the seconds of the slowest rank.
 */
#define _GNU_SOURCE
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE ((size_t)2 << 20)

static char *block(size_t bytes) {
  char *memory = aligned_alloc(HUGE, (bytes + HUGE - 1) / HUGE * HUGE);
  if (!memory) exit(1);
  madvise(memory, bytes, MADV_HUGEPAGE);
  return memory;
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  int rank, count = (argc - 1) / 2;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  char **blocks = calloc((size_t)count, sizeof *blocks);
  for (int i = 0; i < count; i++) {
    size_t bytes = strtoull(argv[2 * i + 2], NULL, 10);
    if (atoi(argv[2 * i + 1]) == rank) memset(blocks[i] = block(bytes), i, bytes);
  }
  const char *touch = getenv("FASTSAFETENSORS_BENCH_TOUCH"); /* has free memory at hand, as the other contenders do */
  if (touch && rank == 0 && system(touch) != 0) return 1;
  MPI_Barrier(MPI_COMM_WORLD);
  double start = MPI_Wtime();
  for (int i = 0; i < count; i++) {
    size_t bytes = strtoull(argv[2 * i + 2], NULL, 10);
    if (!blocks[i]) blocks[i] = block(bytes);
    MPI_Bcast(blocks[i], (int)bytes, MPI_BYTE, atoi(argv[2 * i + 1]), MPI_COMM_WORLD);
  }
  double seconds = MPI_Wtime() - start, slowest = 0;
  MPI_Reduce(&seconds, &slowest, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
  if (rank == 0) printf("%f\n", slowest);
  MPI_Finalize();
  return 0;
}
