/*
 * The reader of files on servers: each request is one transfer of a range, on a connection of its own. What fails for a
 * moment is tried again from the byte that was reached, after a pause.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "net/net.h"

/* The most bytes of one request: long ones, because each waits for its first byte. */
#define PART ((uint64_t)8 << 20)

/* Requests of a lane at once, if the plan sets no number. */
#define DEPTH 4u

/* Bytes that libcurl receives at once: fewer cost more calls, more are not faster. */
#define BUFFER_BYTES (256L << 10)

#define CONNECT_MS 10000u

/* The longest pause before the second attempt; it doubles with each one. */
#define PAUSE_MS 200u
#define MOST_PAUSE_MS 10000u

/* A server that asks for a longer pause is not asked again: the window of the Hub's limits. */
#define MOST_ASKED_MS ((uint64_t)300000)

/* An attempt that has brought this many bytes does not count as a failed one. */
#define PROGRESS ((uint64_t)64 << 10)

/* The longest wait, so that pauses end in time, and the caller can look at the plan. */
#define WAIT_MS 50

static const int64_t MS = 1000000;

/* ---- Calls of libcurl ---- */

/* One line of the head. A result other than `length` ends the transfer. */
static size_t take_line(char *line, size_t one, size_t length, void *user) {
  fst_net_transfer *transfer = user;
  (void)one;
  if (fst_net_head_line(&transfer->head, &transfer->expected, line, length) != 0) return 0;
  if (transfer->head.verdict == FST_NET_ACCEPTED) atomic_store(&transfer->address->has_worked, 1);
  return length;
}

/* Some bytes of the body. */
static size_t take_bytes(char *bytes, size_t one, size_t length, void *user) {
  fst_net_transfer *transfer = user;
  fst_request *request = transfer->request;
  (void)one;
  if (transfer->head.verdict != FST_NET_ACCEPTED) return 0;
  if (length > transfer->head.last - transfer->head.first + 1 - (request->done - transfer->started)) {
    transfer->head.verdict = FST_NET_REFUSED;
    transfer->head.code = FST_NET_ANSWER_LONG;
    return 0;
  }
  memcpy(request->memory + request->done, bytes, length);
  request->done += length;
  transfer->moved = (int64_t)fst_now();
  return length;
}

/* Sets the options of a new handle that do not depend on the request. 0 or a result of libcurl. */
static int set_constants(const fst_curl *curl, void *easy) {
  int status = curl->curl_easy_setopt(easy, FST_CURLOPT_NOSIGNAL, 1L);
  if (status == 0) status = curl->curl_easy_setopt(easy, FST_CURLOPT_FOLLOWLOCATION, 0L);
  if (status == 0) status = curl->curl_easy_setopt(easy, FST_CURLOPT_NETRC, 0L);
  if (status == 0 && curl->curl_easy_setopt(easy, FST_CURLOPT_PROTOCOLS_STR, "http,https") != 0) {
    status = curl->curl_easy_setopt(easy, FST_CURLOPT_PROTOCOLS, (long)(FST_CURLPROTO_HTTP | FST_CURLPROTO_HTTPS));
  }
  if (status != 0) return status;
  /* The rest is not necessary, or unknown to old versions. */
  curl->curl_easy_setopt(easy, FST_CURLOPT_HTTP_VERSION, (long)FST_CURL_HTTP_VERSION_1_1);
  curl->curl_easy_setopt(easy, FST_CURLOPT_BUFFERSIZE, BUFFER_BYTES);
  curl->curl_easy_setopt(easy, FST_CURLOPT_TCP_NODELAY, 1L);
  curl->curl_easy_setopt(easy, FST_CURLOPT_TCP_KEEPALIVE, 1L);
  if (fst_curl_share()) curl->curl_easy_setopt(easy, FST_CURLOPT_SHARE, fst_curl_share());
  return 0;
}

/* Sets what the request needs. 0 or a result of libcurl. */
static int set_request(const fst_curl *curl, fst_net_transfer *transfer) {
  const fst_net_file *file = transfer->file;
  const fst_net_address *address = transfer->address;
  void *easy = transfer->easy;
  char range[48];
  const uint64_t first = transfer->expected.offset, last = first + transfer->expected.length - 1;
  snprintf(range, sizeof range, "%" PRIu64 "-%" PRIu64, first, last);
  const long connect_ms = file->timeout_ms < CONNECT_MS ? (long)file->timeout_ms : (long)CONNECT_MS;
  int status = curl->curl_easy_setopt(easy, FST_CURLOPT_URL, address->url);
  if (status == 0) status = curl->curl_easy_setopt(easy, FST_CURLOPT_RANGE, range);
  if (status == 0) status = curl->curl_easy_setopt(easy, FST_CURLOPT_HTTPHEADER, address->headers);
  if (status == 0) status = curl->curl_easy_setopt(easy, FST_CURLOPT_PROXY, address->proxy);
  if (status == 0) status = curl->curl_easy_setopt(easy, FST_CURLOPT_NOPROXY, file->no_proxy);
  /* The proxy's own answer is not that of the server. */
  if (status == 0) status = curl->curl_easy_setopt(easy, FST_CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  if (status == 0 && file->ca_file) status = curl->curl_easy_setopt(easy, FST_CURLOPT_CAINFO, file->ca_file);
  if (file->ca_path) curl->curl_easy_setopt(easy, FST_CURLOPT_CAPATH, file->ca_path); /* some TLS libraries lack it */
  if (status == 0) status = curl->curl_easy_setopt(easy, FST_CURLOPT_CONNECTTIMEOUT_MS, connect_ms);
  if (status == 0) status = curl->curl_easy_setopt(easy, FST_CURLOPT_HEADERFUNCTION, take_line);
  if (status == 0) status = curl->curl_easy_setopt(easy, FST_CURLOPT_HEADERDATA, transfer);
  if (status == 0) status = curl->curl_easy_setopt(easy, FST_CURLOPT_WRITEFUNCTION, take_bytes);
  if (status == 0) status = curl->curl_easy_setopt(easy, FST_CURLOPT_WRITEDATA, transfer);
  if (status == 0) status = curl->curl_easy_setopt(easy, FST_CURLOPT_PRIVATE, transfer);
  return status;
}

/* ---- The end of a request ---- */

/* Returns a request to the lane, with all its bytes or with the error. */
static void complete(fst_net_client *client, fst_net_transfer *transfer, enum fst_failure kind, int code) {
  fst_request *request = transfer->request;
  request->error = (fst_error){.kind = kind};
  if (kind != FST_FAILURE_NONE) {
    request->error = (fst_error){kind, code, request->offset, request->length, request->done};
  } else {
    atomic_fetch_add(&client->plan->http_bytes, request->length);
    fst_plan_keep(request->file, request->memory, request->offset, request->length);
  }
  if (transfer->address) fst_net_address_leave(transfer->address);
  transfer->address = NULL;
  transfer->request = NULL;
  client->completed[client->completed_count++] = request;
}

/* ---- Attempts ---- */

/* A random number below `limit`, so that many lanes do not try again at the same moment. */
static uint32_t random_below(fst_net_client *client, uint32_t limit) {
  client->seed ^= client->seed << 13;
  client->seed ^= client->seed >> 17;
  client->seed ^= client->seed << 5;
  return client->seed % limit;
}

/* Starts an attempt for the bytes that are still missing. */
static void attempt(fst_net_client *client, fst_net_transfer *transfer) {
  const fst_curl *curl = client->curl;
  fst_request *request = transfer->request;
  transfer->started = request->done;
  transfer->moved = (int64_t)fst_now();
  transfer->head = (fst_net_head){.verdict = FST_NET_WAITING};
  transfer->expected = (fst_net_expected){
    .offset = request->offset + request->done,
    .length = request->length - request->done,
    .size = transfer->file->size,
    .etag = transfer->file->etag,
  };
  if (transfer->address) fst_net_address_leave(transfer->address);
  transfer->address = fst_net_file_address(transfer->file);
  int status = FST_CURLE_OUT_OF_MEMORY;
  if (!transfer->easy) {
    transfer->easy = curl->curl_easy_init();
    if (transfer->easy) status = set_constants(curl, transfer->easy);
    if (transfer->easy && status != 0) {
      curl->curl_easy_cleanup(transfer->easy);
      transfer->easy = NULL;
    }
  }
  if (transfer->easy) status = set_request(curl, transfer);
  if (status == 0 && curl->curl_multi_add_handle(client->multi, transfer->easy) != 0) status = FST_CURLE_OUT_OF_MEMORY;
  if (status != 0) complete(client, transfer, FST_FAILURE_CONNECTION, status);
  else transfer->is_running = 1;
}

/* Plans another attempt, unless there were too many. `wait_ms` is the least pause, which the server demands. */
static void try_again(fst_net_client *client, fst_net_transfer *transfer, uint64_t wait_ms, enum fst_failure kind,
                      int code) {
  const uint64_t brought = transfer->request->done - transfer->started;
  transfer->failures = brought >= PROGRESS ? 1 : transfer->failures + 1;
  if (transfer->failures > transfer->file->retries || wait_ms > MOST_ASKED_MS) {
    complete(client, transfer, kind, code);
    return;
  }
  atomic_store(&client->plan->retry_kind, kind);
  atomic_store(&client->plan->retry_code, code);
  atomic_fetch_add(&client->plan->retries, 1);
  const uint32_t doubled = transfer->failures < 7 ? PAUSE_MS << (transfer->failures - 1) : MOST_PAUSE_MS;
  uint64_t pause = random_below(client, doubled < MOST_PAUSE_MS ? doubled : MOST_PAUSE_MS) + 1;
  if (pause < wait_ms) pause = wait_ms;
  FST_TRACE("bytes from %llu on are requested again in %llu ms: kind %u, code %d",
            (unsigned long long)(transfer->request->offset + transfer->request->done), (unsigned long long)pause, kind,
            code);
  transfer->resume = (int64_t)fst_now() + (int64_t)pause * MS;
}

/* The server has refused the address: the transfer waits for another one. */
static void await_address(fst_net_client *client, fst_net_transfer *transfer) {
  const int status = transfer->head.status;
  if (!fst_net_file_refused(transfer->file, transfer->address)) {
    complete(client, transfer, FST_FAILURE_HTTP, status);
    return;
  }
  transfer->resume = INT64_MAX;
  fst_plan_wake(client->plan);
}

/* Whether another attempt can help after a result of libcurl. */
static int is_temporary(int result) {
  switch (result) {
    case FST_CURLE_COULDNT_RESOLVE_PROXY:
    case FST_CURLE_COULDNT_RESOLVE_HOST:
    case FST_CURLE_COULDNT_CONNECT:
    case FST_CURLE_PARTIAL_FILE:
    case FST_CURLE_OPERATION_TIMEDOUT:
    case FST_CURLE_SSL_CONNECT_ERROR:
    case FST_CURLE_GOT_NOTHING:
    case FST_CURLE_SEND_ERROR:
    case FST_CURLE_RECV_ERROR:
      return 1;
  }
  return 0;
}

/* Decides what follows an attempt that has ended with a result of libcurl. */
static void conclude(fst_net_client *client, fst_net_transfer *transfer, int result) {
  const fst_net_head *head = &transfer->head;
  client->curl->curl_multi_remove_handle(client->multi, transfer->easy);
  transfer->is_running = 0;
  switch (head->verdict) {
    case FST_NET_RETRY:
      try_again(client, transfer, head->retry_ms, FST_FAILURE_HTTP, head->status);
      return;
    case FST_NET_STALE:
      await_address(client, transfer);
      return;
    case FST_NET_CHANGED:
      complete(client, transfer, FST_FAILURE_CHANGED, head->status);
      return;
    case FST_NET_STATUS:
      complete(client, transfer, FST_FAILURE_HTTP, head->status);
      return;
    case FST_NET_REFUSED:
      complete(client, transfer, FST_FAILURE_ANSWER, (int)head->code);
      return;
    case FST_NET_ACCEPTED:
      if (transfer->request->done == transfer->request->length) {
        complete(client, transfer, FST_FAILURE_NONE, 0);
        return;
      }
      if (transfer->request->done - transfer->started == head->last - head->first + 1) {
        attempt(client, transfer); /* the server has chosen a shorter range */
        return;
      }
      if (result == 0) result = FST_CURLE_PARTIAL_FILE;
      break;
    case FST_NET_WAITING:
      if (result == 0) result = FST_CURLE_GOT_NOTHING; /* an answer in another protocol */
      break;
  }
  if (is_temporary(result)) try_again(client, transfer, 0, FST_FAILURE_CONNECTION, result);
  else complete(client, transfer, FST_FAILURE_CONNECTION, result);
}

/* ---- The reader ---- */

/* Lanes to other destinations have their own way to read ahead: lane.c. */
static int wants(const fst_lane *lane) {
  return lane->file->reader == FST_READER_HTTP && lane->plan->destination_kind == FST_DESTINATION_HOST;
}

static int open_lane(fst_lane *lane, uint32_t *most, void **state) {
  const fst_curl *curl = fst_curl_get();
  if (!curl) return ENOSYS;
  const uint32_t depth = lane->file->depth > 0 ? lane->file->depth : DEPTH;
  if (*most > depth) *most = depth;
  fst_net_client *client = fst_net_client_take(curl, *most);
  if (!client) return ENOMEM;
  client->plan = lane->plan;
  *state = client;
  return 0;
}

static uint64_t part(void *state) {
  (void)state;
  return PART;
}

static void start(void *state, fst_request *request) {
  fst_net_client *client = state;
  fst_net_transfer *transfer = client->transfers;
  while (transfer->request) transfer++; /* the lane has at most `depth` requests */
  FST_ASSERT(transfer < client->transfers + client->depth);
  transfer->request = request;
  transfer->file = (fst_net_file *)(uintptr_t)request->file->reader_handle;
  transfer->failures = 0;
  attempt(client, transfer);
}

/* Starts the attempts whose time has come; returns the time in ms until the next one, at most WAIT_MS. */
static int resume_all(fst_net_client *client) {
  int64_t now = (int64_t)fst_now(), next = now + WAIT_MS * MS;
  for (uint32_t i = 0; i < client->depth; i++) {
    fst_net_transfer *transfer = &client->transfers[i];
    if (!transfer->request || transfer->is_running) continue;
    if (transfer->resume == INT64_MAX) {
      if (fst_net_file_has_newer(transfer->file, transfer->address->generation)) attempt(client, transfer);
    } else if (transfer->resume <= now) {
      attempt(client, transfer);
    } else if (transfer->resume < next) {
      next = transfer->resume;
    }
  }
  return (int)((next - now + MS - 1) / MS);
}

/* Ends the attempts that have not brought a byte for too long. */
static void end_stalled(fst_net_client *client) {
  const int64_t now = (int64_t)fst_now();
  for (uint32_t i = 0; i < client->depth; i++) {
    fst_net_transfer *transfer = &client->transfers[i];
    if (!transfer->is_running || now - transfer->moved < (int64_t)transfer->file->timeout_ms * MS) continue;
    conclude(client, transfer, FST_CURLE_OPERATION_TIMEDOUT);
  }
}

/* Lets libcurl work, and decides about the attempts that have ended. */
static void perform(fst_net_client *client) {
  const fst_curl *curl = client->curl;
  int running, left;
  curl->curl_multi_perform(client->multi, &running);
  for (fst_curl_message *message; (message = curl->curl_multi_info_read(client->multi, &left)) != NULL;) {
    if (message->message != FST_CURLMSG_DONE) continue;
    const int result = message->data.result; /* conclude() frees the message */
    fst_net_transfer *transfer = NULL;
    curl->curl_easy_getinfo(message->easy, FST_CURLINFO_PRIVATE, (void *)&transfer);
    conclude(client, transfer, result);
  }
}

static void wait_for_bytes(fst_net_client *client, int wait_ms) {
  const fst_curl *curl = client->curl;
  int ready = 0;
  if (curl->curl_multi_poll) {
    curl->curl_multi_poll(client->multi, NULL, 0, wait_ms, &ready);
    return;
  }
  curl->curl_multi_wait(client->multi, NULL, 0, wait_ms, &ready);
  if (ready > 0) return;
  const struct timespec pause = {0, MS}; /* without a connection it returns at once */
  nanosleep(&pause, NULL);
}

static fst_request *pop(fst_net_client *client) {
  return client->completed_count > 0 ? client->completed[--client->completed_count] : NULL;
}

static fst_request *wait_one(void *state) {
  fst_net_client *client = state;
  for (int round = 0; client->completed_count == 0 && round < 2; round++) {
    const int wait_ms = resume_all(client);
    if (round > 0 && client->completed_count == 0) wait_for_bytes(client, wait_ms);
    perform(client);
    end_stalled(client);
  }
  return pop(client);
}

static void close_lane(void *state) {
  fst_net_client *client = state;
  for (uint32_t i = 0; i < client->depth; i++) {
    fst_net_transfer *transfer = &client->transfers[i];
    /* A connection whose answer was not read to its end is closed by this. */
    if (transfer->is_running) client->curl->curl_multi_remove_handle(client->multi, transfer->easy);
    if (transfer->address) fst_net_address_leave(transfer->address);
    transfer->is_running = 0;
    transfer->address = NULL;
    transfer->request = NULL;
  }
  fst_net_client_give_back(client);
}

const fst_deep_reader fst_deep_reader_http = {
  .alignment = 1,
  .wants = wants,
  .is_deep_at_once = 1,
  .open = open_lane,
  .part = part,
  .start = start,
  .wait = wait_one,
  .close = close_lane,
};
