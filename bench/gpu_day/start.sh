#!/bin/sh
# Runs the GPU day of this archive on this machine: neither Deno nor a compiler nor a network is needed. The results go
# to the folder gpu-day-results, or to that of --out. All options: start.sh --help
here=$(cd "$(dirname "$0")" && pwd)
export PATH="$here/bin:$PATH" DENO_DIR="$here/cache/deno" XDG_CACHE_HOME="$here/cache" DENO_NO_UPDATE_CHECK=1
exec "$here/bin/deno" run -A --no-check --cached-only "$here/package/bench/gpu_day.ts" "$@"
