#!/bin/sh
# Builds into a folder:
#   libfst_sim_cuda.so                the stand-in for libcudart, libcuda and libcufile
#   libfst_sim_kernels.so             the host build of native/cuda/kernels/cast.cu, for FST_SIM_KERNELS; needs C++
#   self_test                         and the kernels that it brings, libfst_sim_self_test_kernels.so
# Usage: build.sh OUTDIR [flags of the compiler, such as -fsanitize=thread]
. "$(dirname "$0")/../shared/build.sh"

$c "$@" $library -Wl,-soname,libfst_sim_cuda.so -o "$out/libfst_sim_cuda.so" $(sources .) $shared -ldl

if command -v "${CXX:-c++}" >/dev/null; then
  $cxx "$@" -I../../../native -fPIC -shared -o "$out/libfst_sim_kernels.so" kernels.cc
else
  echo "No C++ compiler (${CXX:-c++}): libfst_sim_kernels.so is not built" >&2
fi

$c "$@" -fPIC -shared -o "$out/libfst_sim_self_test_kernels.so" self_test_kernels.c
$c "$@" -I../../../native -o "$out/self_test" self_test.c self_test_*_cases.c ../shared/self_test.c "$out/libfst_sim_cuda.so" \
  '-Wl,-rpath,$ORIGIN'
