#!/bin/sh
# Builds libfst_sim_cuda.so, the kernels of its self test and the self test itself into a folder.
# Usage: build.sh OUTDIR [flags of the compiler, such as -fsanitize=thread]
set -eu

if [ $# -lt 1 ]; then
  echo "Usage: $0 OUTDIR [compiler flags]" >&2
  exit 2
fi
out=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
flags="-std=gnu11 -O2 -g -Wall -Wextra -Werror -Wmissing-prototypes -Wstrict-prototypes -fvisibility=hidden"

# Never unloaded: the threads of its streams run until the process ends.
# shellcheck disable=SC2086
${CC:-cc} $flags "$@" -fPIC -shared -pthread -Wl,-z,nodelete -Wl,-soname,libfst_sim_cuda.so \
  -o "$out/libfst_sim_cuda.so" "$here/core.c" "$here/faults.c" "$here/errors.c" "$here/memory.c" "$here/pinned.c" \
  "$here/stream.c" "$here/operation.c" "$here/cudart.c" "$here/cudart_copy.c" "$here/cudart_stream.c" \
  "$here/ptx.c" "$here/cuda.c" "$here/cufile.c" "$here/report.c" -ldl
# shellcheck disable=SC2086
${CC:-cc} $flags "$@" -fPIC -shared -o "$out/libfst_sim_self_test_kernels.so" "$here/self_test_kernels.c"
# shellcheck disable=SC2086
${CC:-cc} $flags "$@" -pthread -o "$out/self_test" "$here"/self_test.c "$here"/self_test_*_cases.c \
  "$out/libfst_sim_cuda.so" '-Wl,-rpath,$ORIGIN'
