#include "added.h"

int fst_cast_limit(int wanted) {
  const int best = best_isa();
  isa = wanted < best ? wanted : best;
  return isa;
}
