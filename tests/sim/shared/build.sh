# The beginning of the stand-ins' build.sh, read with their arguments: OUTDIR [flags of the compiler, such as
# -fsanitize=thread]. Goes to their folder, and leaves the other flags in "$@".
#   $out       OUTDIR
#   $c, $cxx   the compilers with flags
#   $library   flags of a library that is never unloaded: its threads run until the process ends
#   $shared    sources of all stand-ins
# sources FOLDER lists the sources of a stand-in.
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
library="-fPIC -shared -Wl,-z,nodelete"
shared="../shared/configuration.c ../shared/faults.c ../shared/text.c"

sources() {
  for source in "$1"/*.c; do
    case $source in */self_test*) ;; *) echo "$source" ;; esac
  done
}
