/*
 * Writing files so that nobody ever sees half of one: a temporary sibling, written in parallel, synced, renamed.
 *
 * "0 or -errno" is the status of every function unless said otherwise.
 */
#ifndef FST_WRITE_H
#define FST_WRITE_H

#include <stdint.h>

#include "export.h"

/*
 * Creates a file that must not exist yet, with a mode as open(2) takes it, locked (flock) for as long as the descriptor
 * is open: a temporary file that nobody has locked was left behind by a process that is gone. The descriptor, or -errno.
 */
FST_EXPORT int32_t fst_write_create(const char *path, uint32_t mode);

/* A second descriptor of the file for writes past the page cache; -errno where the file system refuses. */
FST_EXPORT int32_t fst_write_open_direct(int32_t fd);

/* Gives the file its size, with the space reserved where the file system can do that; -ENOSPC if there is none. */
FST_EXPORT int32_t fst_write_allocate(int32_t fd, uint64_t size);

/*
 * Writes `count` elements at `offset`, cast from dtype `from` to dtype `to` on the way (equal: as they are; `count`
 * is then bytes). `fd_direct` is a second, O_DIRECT descriptor of the file for its whole pages, or -1.
 *
 * `staging` is for what cannot go straight from `source`: page-aligned, whole pages long, and nobody else's meanwhile.
 */
FST_EXPORT int32_t fst_write_range(int32_t fd, int32_t fd_direct, const void *source, uint64_t count, uint64_t offset,
                                   uint32_t from, uint32_t to, void *staging, uint64_t staging_length);

/* Waits until the file is on storage. */
FST_EXPORT int32_t fst_write_sync(int32_t fd);

/*
 * Renames; without `replace`, -EEXIST if the new path exists, even if it has just come into being. A file system that
 * knows neither this kind of rename nor hard links is asked first: there the caller must exclude others.
 */
FST_EXPORT int32_t fst_path_rename(const char *from, const char *to, int32_t replace);

/* Waits until the names in a folder are on storage. */
FST_EXPORT int32_t fst_folder_sync(const char *path);

#endif
