#include "added.h"

int fst_cufile_shutdown(void) {
  int status = 0;
  pthread_mutex_lock(&mutex);
  if (is_own) status = close_driver();
  if (status == 0) open_mode = FST_GDS_OFF;
  failed = 0;
  pthread_mutex_unlock(&mutex);
  return status;
}
