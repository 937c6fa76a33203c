#!/bin/sh
# Builds into a folder:
#   libhf3fs_api_shared.so   the stand-in for 3FS' library of that name
#   self_test
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
c="${CC:-cc} -std=gnu11 -O2 -g -Wall -Wextra -Werror -Wmissing-prototypes -Wstrict-prototypes -fvisibility=hidden -pthread"

# Never unloaded: its threads run until the process ends.
$c "$@" -fPIC -shared -Wl,-z,nodelete -Wl,-soname,libhf3fs_api_shared.so -o "$out/libhf3fs_api_shared.so" \
  core.c files.c iov.c ring.c worker.c faults.c report.c -lrt

$c "$@" -o "$out/self_test" self_test.c self_test_*_cases.c "$out/libhf3fs_api_shared.so" '-Wl,-rpath,$ORIGIN'
