/* Maps huge pages for destinations and staging, and touches memory ahead of the lanes. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "core/core.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

int32_t fst_memory_advise(void *buffer, uint64_t offset, uint64_t length) {
  uintptr_t start = ((uintptr_t)buffer + offset + FST_HUGE_PAGE - 1) & ~(uintptr_t)(FST_HUGE_PAGE - 1);
  uintptr_t stop = ((uintptr_t)buffer + offset + length) & ~(uintptr_t)(FST_HUGE_PAGE - 1);
  if (stop <= start) return 0;
  return madvise((void *)start, stop - start, MADV_HUGEPAGE) == 0 ? 0 : -errno;
}

int64_t fst_memory_mapped(uint64_t *ranges, uint64_t capacity) {
  FILE *file = fopen("/proc/self/maps", "re");
  if (!file) return -errno;
  char line[4352]; /* a path of PATH_MAX, and the fields before it */
  uint64_t count = 0;
  while (fgets(line, sizeof line, file)) {
    uint64_t start, stop, inode;
    char access[5], name[2];
    int fields = sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %*s %" SCNu64 " %1s", &start, &stop, access, &inode, name);
    if (fields != 4 || inode != 0 || strcmp(access, "rw-p") != 0) continue; /* a fifth field is a name */
    if (count < capacity) {
      ranges[2 * count] = start;
      ranges[2 * count + 1] = stop;
    }
    count++;
  }
  fclose(file);
  return (int64_t)count;
}

/* Rounds up to 64 KiB, a multiple of every page size (4, 16 or 64 KiB). */
static size_t whole_pages(size_t length) {
  const size_t page = fst_sys_page_size();
  return (length + page - 1) & ~(page - 1);
}

static void unmap(void *start, size_t length) {
  int status = length > 0 ? munmap(start, length) : 0;
  FST_ASSERT(status == 0);
  (void)status;
}

void *fst_staging_map(size_t length) {
  length = whole_pages(length);
  /* One more huge page, so that an aligned part of the wanted length is inside. */
  size_t mapped = length + FST_HUGE_PAGE;
  char *base = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return NULL;
  char *aligned = (char *)(((uintptr_t)base + FST_HUGE_PAGE - 1) & ~(uintptr_t)(FST_HUGE_PAGE - 1));
  unmap(base, (size_t)(aligned - base));
  unmap(aligned + length, (size_t)(base + mapped - (aligned + length)));
  madvise(aligned, length, MADV_HUGEPAGE); /* advice only: small pages also work */
  return aligned;
}

void fst_staging_unmap(void *staging, size_t length) {
  if (staging) unmap(staging, whole_pages(length));
}

int32_t fst_plan_populate(fst_plan *plan, uint32_t limit, uint64_t ahead, FST_KEEP_8) {
  const fst_segment *segments = fst_plan_segments(plan);
  const uintptr_t page = fst_sys_page_size();
  if (limit > plan->segment_count) limit = plan->segment_count;
  uint64_t touched = 0, reached = 0; /* bytes of the segments before `index` and before `next` */
  uint32_t next = atomic_load(&plan->next), counted = next;
  /* Populating holds the lock of all mappings; the pause lets other threads, such as the event loop's, take it. */
  const struct timespec breath = {0, 20000};
  for (uint32_t index = next; index < limit;) {
    if (atomic_load(&plan->cancelled)) return 1;
    next = atomic_load(&plan->next);
    for (; counted < next; counted++) reached += fst_segment_bytes(&segments[counted]);
    if (next > index) { /* the lanes are ahead: continue at their position */
      index = next;
      touched = reached;
      continue;
    }
    uint64_t length = fst_segment_bytes(&segments[index]);
    uint64_t landing = fst_segment_landing(&segments[index], length);
    if (touched > reached && touched + length > reached + ahead) {
      struct timespec pause = {0, 100000};
      nanosleep(&pause, NULL);
      continue;
    }
    uintptr_t start = (uintptr_t)segments[index].destination & ~(page - 1);
    uintptr_t stop = ((uintptr_t)segments[index].destination + landing) & ~(page - 1);
    if (stop > start && madvise((void *)start, stop - start, MADV_POPULATE_WRITE) != 0) return -errno;
    touched += length;
    index++;
    nanosleep(&breath, NULL);
  }
  return 0;
}
