/* Reads ranges of ordinary files: cached bytes through the page cache, others past it. */
#include <errno.h>
#include <string.h>

#include "core/core.h"

#define PAGE ((uint64_t)4096) /* O_DIRECT on all known file systems needs this alignment */

/* A shorter direct read is slower than a buffered one. */
#define DIRECT_MINIMUM ((uint64_t)64 << 10)

static int fail_system(fst_lane *lane, uint64_t offset, uint64_t expected, int error) {
  return fst_lane_fail(lane, (fst_error){FST_FAILURE_SYSTEM, error, offset, expected, 0});
}

static int fail_truncated(fst_lane *lane, uint64_t offset, uint64_t expected, uint64_t actual) {
  return fst_lane_fail(lane, (fst_error){FST_FAILURE_TRUNCATED, 0, offset, expected, actual});
}

static int read_buffered(fst_lane *lane, uint64_t offset, uint64_t length, char *destination) {
  lane->reads++;
  uint64_t got;
  int status = fst_read_fully(lane->file->fd, destination, length, offset, &got);
  /* The error is of the next byte: of several tensors in these bytes, of the one that has it. */
  if (status < 0) return fst_lane_fail(lane, (fst_error){FST_FAILURE_SYSTEM, -status, offset, length, got});
  if (got < length) return fail_truncated(lane, offset, length, got);
  atomic_fetch_add(&lane->plan->buffered_bytes, length);
  return 0;
}

static int is_direct(const fst_lane *lane, uint64_t offset, uint64_t length) {
  const fst_plan_file *file = lane->file;
  if (file->fd_direct < 0 || length < DIRECT_MINIMUM || atomic_load(&file->direct_off)) return 0;
  int64_t cached = fst_file_cached(file->fd, offset, length);
  return cached >= 0 && (uint64_t)cached < length / 2;
}

/*
 * Reads [offset, offset + length) past the page cache; all three are multiples of a page, and the first `needed`
 * bytes must exist. 0; 1 if the file system refuses direct reads; -1 after a failure.
 */
static int read_direct(fst_lane *lane, uint64_t offset, uint64_t length, uint64_t needed, char *destination) {
  FST_ASSERT(((offset | length | (uintptr_t)destination) & (PAGE - 1)) == 0 && needed <= length);
  uint64_t done = 0;
  lane->reads++;
  while (done < needed) {
    ssize_t got = fst_sys_pread(lane->file->fd_direct, destination + done, length - done, (off_t)(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EINVAL || errno == EOPNOTSUPP) && done == 0) {
      FST_TRACE("direct reads of file %u are refused: error %d", lane->segment->file, errno);
      atomic_store(&lane->file->direct_off, 1);
      atomic_fetch_add(&lane->plan->direct_refused, 1);
      return 1;
    }
    if (got < 0) return fail_system(lane, offset + done, needed - done, errno);
    if (got == 0) return fail_truncated(lane, offset, needed, done);
    done += (uint64_t)got;
    if (done < needed && done % PAGE != 0) { /* ended inside a page: only a buffered read can continue there */
      atomic_fetch_add(&lane->plan->direct_bytes, done);
      return read_buffered(lane, offset + done, needed - done, destination + done);
    }
  }
  atomic_fetch_add(&lane->plan->direct_bytes, needed);
  return 0;
}

static char *staging(fst_lane *lane, uint64_t expected) {
  if (!lane->staging) lane->staging = fst_staging_take(lane->plan->staging_bytes);
  if (!lane->staging) fail_system(lane, lane->segment->file_offset, expected, ENOMEM);
  return lane->staging;
}

/* Reads the whole pages around the wanted bytes to staging memory; returns as read_direct. */
static int stage_direct(fst_lane *lane, uint64_t offset, uint64_t length, const char **bytes) {
  char *stage = staging(lane, length);
  if (!stage) return -1;
  uint64_t start = offset & ~(PAGE - 1), stop = (offset + length + PAGE - 1) & ~(PAGE - 1);
  FST_ASSERT(stop - start <= lane->plan->staging_bytes);
  *bytes = stage + (offset - start);
  return read_direct(lane, start, stop - start, offset + length - start, stage);
}

static uint64_t stage_capacity(const fst_lane *lane) {
  return lane->plan->staging_bytes - 2 * PAGE;
}

static uint64_t stage_piece(const fst_lane *lane, uint64_t offset, uint64_t length, uint64_t most) {
  uint64_t piece = stage_capacity(lane) & ~(uint64_t)63;
  if (piece > most && !is_direct(lane, offset, length)) piece = most;
  return piece < length ? piece : length;
}

static int read_staged(fst_lane *lane, uint64_t offset, uint64_t length, const char **bytes) {
  if (is_direct(lane, offset, length)) {
    int status = stage_direct(lane, offset, length, bytes);
    if (status <= 0) return status;
  }
  char *stage = staging(lane, length);
  if (!stage) return -1;
  FST_ASSERT(length <= lane->plan->staging_bytes);
  *bytes = stage;
  return read_buffered(lane, offset, length, stage);
}

static int read_range(fst_lane *lane, uint64_t offset, uint64_t length, char *destination) {
  if (!is_direct(lane, offset, length)) return read_buffered(lane, offset, length, destination);
  if (((uintptr_t)destination - offset) % PAGE == 0) {
    /* Directly to the destination: whole pages only, because the bytes around them belong to other segments. */
    uint64_t start = (offset + PAGE - 1) & ~(PAGE - 1), stop = (offset + length) & ~(PAGE - 1);
    int status = read_direct(lane, start, stop - start, stop - start, destination + (start - offset));
    if (status < 0) return -1;
    if (status == 0) {
      if (start > offset && read_buffered(lane, offset, start - offset, destination) != 0) return -1;
      if (stop == offset + length) return 0;
      return read_buffered(lane, stop, offset + length - stop, destination + (stop - offset));
    }
    return read_buffered(lane, offset, length, destination);
  }
  while (length > 0) {
    uint64_t part = stage_capacity(lane) < length ? stage_capacity(lane) : length;
    const char *bytes;
    int status = stage_direct(lane, offset, part, &bytes);
    if (status < 0) return -1;
    if (status > 0) return read_buffered(lane, offset, length, destination);
    memcpy(destination, bytes, part);
    offset += part;
    destination += part;
    length -= part;
  }
  return 0;
}

const fst_reader fst_reader_posix = {read_range, read_staged, stage_capacity, stage_piece, NULL};
