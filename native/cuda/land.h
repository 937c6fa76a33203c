/* Landing in device memory: inside the shim only. */
#ifndef FST_LAND_CUDA_H
#define FST_LAND_CUDA_H

#include "core/lane.h"

/* Reads the segment in hand and has the device copy it. It is reported landed once the device has done so. */
int fst_land_cuda(fst_lane *lane);

/* Waits for what the device still has to do for this lane, reports it, and gives back what the lane used. */
void fst_land_cuda_end(fst_lane *lane);

#endif
