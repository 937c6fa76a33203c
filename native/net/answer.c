/* Reads the head of an answer, and decides whether its body is the expected range. */
#include <string.h>
#include <strings.h>

#include "net/net.h"

/* One line's value, without the spaces around it. */
typedef struct text {
  const char *start;
  size_t length;
} text;

static int is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static text trimmed(const char *start, size_t length) {
  while (length > 0 && is_space(*start)) start++, length--;
  while (length > 0 && is_space(start[length - 1])) length--;
  return (text){start, length};
}

/* The value of a line that is the header `name`; 0 if it is another. */
static int is_header(const char *line, size_t length, const char *name, text *value) {
  const size_t stem = strlen(name);
  if (length <= stem || line[stem] != ':' || strncasecmp(line, name, stem) != 0) return 0;
  *value = trimmed(line + stem + 1, length - stem - 1);
  return 1;
}

/* Reads a number and moves behind it; 0 if there is none, or it is too large. */
static int take_number(text *from, uint64_t *number) {
  uint64_t value = 0;
  size_t digits = 0;
  while (digits < from->length && from->start[digits] >= '0' && from->start[digits] <= '9') {
    if (value > (UINT64_MAX - 9) / 10) return 0;
    value = value * 10 + (uint64_t)(from->start[digits++] - '0');
  }
  from->start += digits;
  from->length -= digits;
  *number = value;
  return digits > 0;
}

static int take(text *from, const char *word) {
  const size_t length = strlen(word);
  if (from->length < length || strncasecmp(from->start, word, length) != 0) return 0;
  from->start += length;
  from->length -= length;
  return 1;
}

/* "bytes 0-99/1000"; an unknown size is "*", and the range of an answer without one too. */
static void read_range(fst_net_head *head, text value) {
  uint64_t first = 1, last = 0, total = UINT64_MAX;
  if (!take(&value, "bytes ")) return;
  if (!take(&value, "*") &&
      !(take_number(&value, &first) && take(&value, "-") && take_number(&value, &last))) {
    return;
  }
  if (!take(&value, "/") || !(take(&value, "*") || take_number(&value, &total)) || value.length > 0) return;
  head->has_range = 1;
  head->first = first;
  head->last = last;
  head->total = total;
}

/* The number of a parameter: 55 of "t=" in `"resolvers";r=0;t=55`. 0 if there is none. */
static int find_parameter(text value, const char *name, uint64_t *number) {
  while (value.length > 0) {
    if (!take(&value, ";")) {
      value.start++, value.length--;
      continue;
    }
    value = trimmed(value.start, value.length);
    if (take(&value, name)) return take_number(&value, number);
  }
  return 0;
}

/* The Hub's header: its seconds count only if no request is left. */
static void read_rate_limit(fst_net_head *head, text value) {
  uint64_t left, seconds;
  if (find_parameter(value, "r=", &left) && left == 0 && find_parameter(value, "t=", &seconds)) {
    head->retry_ms = seconds < 86400 ? seconds * 1000 : 86400000;
  }
}

/* Seconds, or a date. */
static void read_retry_after(fst_net_head *head, text value) {
  uint64_t seconds;
  text rest = value;
  if (take_number(&rest, &seconds) && rest.length == 0) {
    head->retry_ms = seconds < 86400 ? seconds * 1000 : 86400000;
    return;
  }
  char date[64];
  const fst_curl *curl = fst_curl_get();
  if (!curl || value.length >= sizeof date) return;
  memcpy(date, value.start, value.length);
  date[value.length] = 0;
  const time_t then = curl->curl_getdate(date, NULL), now = time(NULL);
  if (then > now) head->retry_ms = then - now < 86400 ? (uint64_t)(then - now) * 1000 : 86400000;
}

static int is_other_etag(const char *expected, text value) {
  if (!expected || value.length == 0) return 0;
  take(&value, "W/"); /* servers mark their own tags as weak when they pass bodies on */
  return value.length != strlen(expected) || memcmp(value.start, expected, value.length) != 0;
}

static enum fst_net_verdict judge_range(fst_net_head *head, const fst_net_expected *expected) {
  head->code = FST_NET_ANSWER_ENCODED;
  if (head->is_encoded) return FST_NET_REFUSED;
  head->code = FST_NET_ANSWER_RANGE;
  if (!head->has_range || head->first > head->last) return FST_NET_REFUSED;
  if (head->total != UINT64_MAX && head->total != expected->size) return FST_NET_CHANGED;
  if (head->is_other) return FST_NET_CHANGED;
  /* A server may answer with fewer bytes. */
  if (head->first != expected->offset || head->last - head->first >= expected->length) return FST_NET_REFUSED;
  return FST_NET_ACCEPTED;
}

static enum fst_net_verdict judge(fst_net_head *head, const fst_net_expected *expected) {
  const int status = head->status;
  /* Some servers answer 200 with the right range and only its bytes. */
  if (status == 206 || (status == 200 && head->has_range)) return judge_range(head, expected);
  if (status == 412 || (status == 200 && head->is_other)) return FST_NET_CHANGED;
  if (status == 416 && head->has_range && head->total != UINT64_MAX && head->total != expected->size) {
    return FST_NET_CHANGED;
  }
  /* Servers of signed URLs answer 400 too when the signature has expired, and some redirect to a new one. */
  if (status == 400 || status == 401 || status == 403 || (status >= 300 && status < 400)) return FST_NET_STALE;
  if (status == 408 || status == 425 || status == 429) return FST_NET_RETRY;
  if (status == 500 || (status >= 502 && status <= 504)) return FST_NET_RETRY;
  return FST_NET_STATUS;
}

/* "HTTP/1.1 206 Partial Content": begins the head of an answer; an earlier one was only information. */
static void begin(fst_net_head *head, const char *line, size_t length) {
  const char *space = memchr(line, ' ', length);
  uint64_t status = 0;
  if (space) {
    text rest = {space + 1, length - (size_t)(space + 1 - line)};
    take_number(&rest, &status);
  }
  *head = (fst_net_head){.status = status < 1000 ? (int)status : 0, .bytes = head->bytes};
}

int fst_net_head_line(fst_net_head *head, const fst_net_expected *expected, const char *line, size_t length) {
  text value;
  head->bytes += length;
  if (head->bytes > FST_NET_HEAD_BYTES) {
    head->code = FST_NET_ANSWER_HEAD;
    head->verdict = FST_NET_REFUSED;
    return -1;
  }
  if (head->verdict != FST_NET_WAITING) return 0; /* trailers, which follow the body */
  if (length >= 5 && strncasecmp(line, "HTTP/", 5) == 0) {
    begin(head, line, length);
  } else if (trimmed(line, length).length == 0) {
    if (head->status >= 100 && head->status < 200) return 0; /* the answer itself follows */
    head->verdict = judge(head, expected);
    return head->verdict == FST_NET_ACCEPTED ? 0 : -1;
  } else if (is_header(line, length, "Content-Range", &value)) {
    read_range(head, value);
  } else if (is_header(line, length, "Content-Encoding", &value)) {
    head->is_encoded = value.length != 0 && !(value.length == 8 && strncasecmp(value.start, "identity", 8) == 0);
  } else if (is_header(line, length, "ETag", &value)) {
    head->is_other = is_other_etag(expected->etag, value);
  } else if (is_header(line, length, "Retry-After", &value)) {
    read_retry_after(head, value);
  } else if (is_header(line, length, "RateLimit", &value)) {
    read_rate_limit(head, value);
  }
  return 0;
}
