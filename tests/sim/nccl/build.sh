#!/bin/sh
# Builds libfst_sim_nccl.so, which carries the stand-ins for libnccl, libcudart, libcuda and libcufile, into a folder.
# Usage: build.sh OUTDIR [flags of the compiler, such as -fsanitize=thread]
. "$(dirname "$0")/../shared/build.sh"

$c "$@" $library -Wl,-soname,libfst_sim_nccl.so -o "$out/libfst_sim_nccl.so" -I../cuda $(sources .) \
  $(sources ../cuda) $shared -ldl
