#!/bin/sh
# Builds libmpi_abi.so.0, the stand-in for a library with the standard ABI, into a folder. Usage: build.sh OUTDIR
set -eu

if [ $# -ne 1 ]; then
  echo "Usage: $0 OUTDIR" >&2
  exit 2
fi
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"
${CC:-cc} -std=gnu11 -O2 -g -Wall -Wextra -Werror -fvisibility=hidden -fPIC -shared -Wl,-z,nodelete \
  -Wl,-soname,libmpi_abi.so.0 -o "$out/libmpi_abi.so.0" mpi_abi.c -ldl
