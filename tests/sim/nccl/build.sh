#!/bin/sh
# Builds libfst_sim_nccl.so, which carries the stand-ins for libnccl, libcudart, libcuda and libcufile, into a folder.
# Usage: build.sh OUTDIR [flags of the compiler, such as -fsanitize=thread]
set -eu

if [ $# -lt 1 ]; then
  echo "Usage: $0 OUTDIR [compiler flags]" >&2
  exit 2
fi
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")"
flags="-std=gnu11 -O2 -g -Wall -Wextra -Werror -Wmissing-prototypes -Wstrict-prototypes -fvisibility=hidden"

# Never unloaded: the threads of its streams run until the process ends.
# shellcheck disable=SC2086
${CC:-cc} $flags "$@" -fPIC -shared -pthread -Wl,-z,nodelete -Wl,-soname,libfst_sim_nccl.so \
  -o "$out/libfst_sim_nccl.so" -I../cuda nccl.c channel.c ../cuda/core.c ../cuda/faults.c ../cuda/errors.c \
  ../cuda/memory.c ../cuda/pinned.c ../cuda/stream.c ../cuda/operation.c ../cuda/cudart.c ../cuda/cudart_copy.c \
  ../cuda/cudart_stream.c ../cuda/ptx.c ../cuda/cuda.c ../cuda/cufile.c ../cuda/report.c -ldl
