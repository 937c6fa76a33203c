/*
 * Connections of lanes, each with the handles of its transfers: a lane returns them when it ends, and the next one
 * continues on the same connections, also in a later load. A thread closes those that stay idle.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "net/net.h"

/* Seconds that connections stay open without a lane. Servers close theirs after 5 to 75. */
#define IDLE_SECONDS 20

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static fst_net_client *idle; /* the one that was returned last is the first */
static int is_watched;       /* the thread runs */

static void free_client(fst_net_client *client) {
  for (uint32_t i = 0; client->transfers && i < client->capacity; i++) {
    if (client->transfers[i].easy) client->curl->curl_easy_cleanup(client->transfers[i].easy);
  }
  /* After its handles: connections use the last of them when they are closed. */
  if (client->multi) client->curl->curl_multi_cleanup(client->multi);
  free(client->completed);
  free(client->transfers);
  free(client);
}

static void *close_idle(void *unused) {
  (void)unused;
  for (;;) {
    const struct timespec second = {1, 0};
    nanosleep(&second, NULL);
    const int64_t old = (int64_t)fst_now() - (int64_t)IDLE_SECONDS * 1000000000;
    pthread_mutex_lock(&mutex);
    fst_net_client **place = &idle;
    while (*place && (*place)->idle_since > old) place = &(*place)->next;
    fst_net_client *closing = *place; /* it, and all that were returned before it */
    *place = NULL;
    const int ends = idle == NULL;
    if (ends) is_watched = 0;
    pthread_mutex_unlock(&mutex);
    while (closing) {
      fst_net_client *client = closing;
      closing = client->next;
      free_client(client);
    }
    if (ends) return NULL;
  }
}

static fst_net_client *new_client(const fst_curl *curl) {
  fst_net_client *client = calloc(1, sizeof *client);
  if (!client) return NULL;
  client->curl = curl;
  client->multi = curl->curl_multi_init();
  client->seed = (uint32_t)((int64_t)fst_now() ^ (int64_t)(uintptr_t)client) | 1;
  if (client->multi) return client;
  free(client);
  return NULL;
}

/* Makes space for the transfers of a lane. 0, or -1 without memory. */
static int reserve(fst_net_client *client, uint32_t depth) {
  if (depth > client->capacity) {
    fst_net_transfer *transfers = realloc(client->transfers, depth * sizeof *transfers);
    if (transfers) client->transfers = transfers;
    fst_request **completed = realloc(client->completed, depth * sizeof *completed);
    if (completed) client->completed = completed;
    if (!transfers || !completed) return -1;
    memset(transfers + client->capacity, 0, (depth - client->capacity) * sizeof *transfers);
    client->capacity = depth;
    /* Otherwise the number of connections depends on that of the transfers that run at the moment. */
    client->curl->curl_multi_setopt(client->multi, FST_CURLMOPT_MAXCONNECTS, (long)depth);
  }
  client->depth = depth;
  client->completed_count = 0;
  return 0;
}

fst_net_client *fst_net_client_take(const fst_curl *curl, uint32_t depth) {
  pthread_mutex_lock(&mutex);
  fst_net_client *client = idle;
  if (client) idle = client->next;
  pthread_mutex_unlock(&mutex);
  if (!client) client = new_client(curl);
  if (!client || reserve(client, depth) == 0) return client;
  free_client(client);
  return NULL;
}

void fst_net_client_give_back(fst_net_client *client) {
  client->plan = NULL;
  client->idle_since = (int64_t)fst_now();
  pthread_mutex_lock(&mutex);
  client->next = idle;
  idle = client;
  const int starts = !is_watched;
  is_watched = 1;
  pthread_mutex_unlock(&mutex);
  pthread_t thread;
  if (!starts) return;
  if (pthread_create(&thread, NULL, close_idle, NULL) == 0) {
    pthread_detach(thread);
    return;
  }
  pthread_mutex_lock(&mutex); /* the next one that is returned tries again */
  is_watched = 0;
  pthread_mutex_unlock(&mutex);
}
