#!/bin/sh
# Makes cast_ptx.h of cast.cu: PTX text that the CUDA driver compiles for whatever device it finds.
#
# nvcc writes the newest PTX version for its oldest target, which older drivers refuse. These kernels use
# nothing that PTX 6.4 (CUDA 10.1) and sm_60 lack, so the text is given that header, and ptxas must take it
# for every device it knows. Needs nvcc and ptxas; what builds the shim needs only the result.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

nvcc -ptx -arch=compute_75 -O3 -std=c++17 -I ../.. cast.cu -o "$work/nvcc.ptx"
sed -e 's/^\.version .*/.version 6.4/' -e 's/^\.target .*/.target sm_60/' \
  -e 's|//.*||' -e 's/^[[:space:]]*//' -e 's/[[:space:]]\{1,\}/ /g' -e 's/ $//' -e '/^$/d' \
  "$work/nvcc.ptx" >"$work/cast.ptx"

for device in $(ptxas --help | grep -o "'sm_[0-9]*'" | tr -d "'" | sort -u); do
  ptxas -arch="$device" "$work/cast.ptx" -o "$work/cast.cubin"
  echo "$device: assembles"
done

{
  echo '/* Generated from cast.cu and convert.h by native/cuda/kernels/build_ptx.sh: do not edit. */'
  echo '#ifndef FST_KERNELS_CAST_PTX_H'
  echo '#define FST_KERNELS_CAST_PTX_H'
  echo
  echo 'static const char fst_cast_ptx[] ='
  sed -e 's/["\\]/\\&/g' -e 's/.*/  "&\\n"/' -e '$s/$/;/' "$work/cast.ptx"
  echo
  echo '#endif'
} >cast_ptx.h
