/* One load's use of cuFile: its files, its windows of device memory, and when to stop. Inside the shim only. */
#ifndef FST_GDS_H
#define FST_GDS_H

#include "cuda/cufile.h"
#include "core/lane.h"

/* The most that one read, and one registered window, may have: max_direct_io of the driver. */
#define FST_GDS_WINDOW ((uint64_t)16 << 20)

typedef struct fst_gds fst_gds;

/* For a plan with `files` files; NULL without memory. `required`: a failure ends the load. */
fst_gds *fst_gds_new(const fst_cufile_driver *driver, uint32_t files, int required);

/* Gives the files back. */
void fst_gds_free(fst_gds *gds);

/* Whether cuFile should read a range of the file in hand: no longer after a failure, and not what is cached. */
int fst_gds_wants(fst_gds *gds, fst_lane *lane, uint64_t offset, uint64_t length);

/*
 * Registers device memory, at most FST_GDS_WINDOW of it, as a window. 0; 1 where cuFile is given up; -1 if the plan
 * failed.
 */
int fst_gds_register(fst_gds *gds, fst_lane *lane, uint64_t window, uint64_t bytes);

void fst_gds_deregister(fst_gds *gds, uint64_t window);

/*
 * Reads what it can of a range of the file in hand to a registered window, by whole pages. `*got` bytes of the range
 * are then `*skip` bytes into the window; 0 where the host is to read. 0, or -1 if the plan failed.
 */
int fst_gds_read(fst_gds *gds, fst_lane *lane, uint64_t window, uint64_t window_bytes, uint64_t offset, uint64_t length,
                 uint64_t *skip, uint64_t *got);

/* File bytes read so far, and the first failure or 0. */
void fst_gds_tally(fst_gds *gds, uint64_t *bytes, int *failure);

#endif
