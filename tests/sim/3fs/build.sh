#!/bin/sh
# Builds into a folder:
#   libhf3fs_api_shared.so   the stand-in for 3FS' library of that name
#   self_test
# Usage: build.sh OUTDIR [flags of the compiler, such as -fsanitize=thread]
. "$(dirname "$0")/../shared/build.sh"

$c "$@" $library -Wl,-soname,libhf3fs_api_shared.so -o "$out/libhf3fs_api_shared.so" $(sources .) $shared -lrt
$c "$@" -o "$out/self_test" self_test*.c ../shared/self_test.c "$out/libhf3fs_api_shared.so" '-Wl,-rpath,$ORIGIN'
