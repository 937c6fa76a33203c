#!/bin/sh
# Builds libmpi_abi.so.0, the stand-in for a library with the standard ABI, into a folder.
# Usage: build.sh OUTDIR [flags of the compiler]
. "$(dirname "$0")/../shared/build.sh"

$c "$@" -Wno-missing-prototypes $library -Wl,-soname,libmpi_abi.so.0 -o "$out/libmpi_abi.so.0" $(sources .) -ldl
