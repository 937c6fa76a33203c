/* Looks at the staging memory (added.h), and lets time pass for it. */
#include "added.h"

void fst_staging_state(fst_staging_counts *counts) {
  pthread_mutex_lock(&mutex);
  *counts = (fst_staging_counts){.mapped = mapped};
  for (block *at = blocks; at; at = at->next) {
    counts->blocks++;
    if (at->idle_since > 0) counts->idle += at->length;
  }
  pthread_mutex_unlock(&mutex);
}

void fst_staging_age(void) {
  pthread_mutex_lock(&mutex);
  for (block *at = blocks; at; at = at->next) {
    if (at->idle_since > 0) at->idle_since = 1;
  }
  pthread_cond_signal(&changed);
  pthread_mutex_unlock(&mutex);
}
