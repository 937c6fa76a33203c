#!/bin/sh
# Builds into a folder:
#   libfst_sim_cuda.so                the stand-in for libcudart, libcuda and libcufile
#   libfst_sim_kernels.so             the host build of native/kernels/cast.cu, for FST_SIM_KERNELS; needs C++
#   self_test                         and the kernels that it brings, libfst_sim_self_test_kernels.so
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
# The few thread-local bytes are static: LeakSanitizer stumbles over those of libraries opened at run time.
flags="-O2 -g -Wall -Wextra -Werror -fvisibility=hidden -ftls-model=initial-exec"
c="${CC:-cc} -std=gnu11 $flags -Wmissing-prototypes -Wstrict-prototypes -pthread"
cxx="${CXX:-c++} -std=c++17 $flags -Wno-unknown-pragmas -fno-strict-aliasing"

# Never unloaded: the threads of its streams run until the process ends.
$c "$@" -fPIC -shared -Wl,-z,nodelete -Wl,-soname,libfst_sim_cuda.so -o "$out/libfst_sim_cuda.so" \
  core.c faults.c errors.c memory.c pinned.c stream.c operation.c cudart.c cudart_copy.c cudart_stream.c ptx.c cuda.c \
  cufile.c report.c -ldl

if command -v "${CXX:-c++}" >/dev/null; then
  $cxx "$@" -fPIC -shared -o "$out/libfst_sim_kernels.so" kernels.cc
else
  echo "No C++ compiler (${CXX:-c++}): libfst_sim_kernels.so is not built" >&2
fi

$c "$@" -fPIC -shared -o "$out/libfst_sim_self_test_kernels.so" self_test_kernels.c
$c "$@" -o "$out/self_test" self_test.c self_test_*_cases.c "$out/libfst_sim_cuda.so" '-Wl,-rpath,$ORIGIN'
