/* A small HTTP server for the tests of native/net: it serves one file of noise by ranges, or as a fault demands. */
#ifndef NET_SERVER_H
#define NET_SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <strings.h>
#include <sys/socket.h>

#include "plan_support.h"

enum fault_kind {
  SERVE,    /* the right answer */
  STATUS,   /* `value` as status, `text` as more headers, and a body that is not one of the file */
  CUT,      /* closes the connection after `value` bytes of the body */
  SHORT,    /* a complete answer with the right range, but only `value` bytes */
  STALL,    /* `value` bytes of the body, and then nothing until the client closes the connection */
  SILENT,   /* no byte at all until the client closes the connection */
  WHOLE,    /* 200 and the whole file */
  LESS,     /* a complete answer with the first `value` bytes of the range */
  SLICE,    /* 200 with the right Content-Range and its bytes */
  HEADER,   /* the right answer with the header `text` too */
  RANGE,    /* the Content-Range `text` */
  LONG,     /* more bytes than the range, without Content-Length */
  ENDLESS,  /* headers without end */
  INFO,     /* an answer 103 before the right one */
  TOKEN,    /* 403 unless the request has the header `text` */
};

typedef struct fault {
  enum fault_kind kind;
  uint64_t value;
  const char *text;
} fault;

#define MOST_REQUESTS 512

/* The server: what it serves, the faults of the next requests, and what it has seen. */
static struct {
  int listener;
  int port;
  const char *bytes;
  uint64_t size;
  const char *etag;
  pthread_mutex_t mutex;
  fault faults[64];
  unsigned fault_count, fault_next;
  fault always; /* after the others */
  unsigned connections, requests;
  uint64_t firsts[MOST_REQUESTS], lasts[MOST_REQUESTS]; /* ranges of the requests */
  char head[4096];                                      /* of the last request */
} server = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* Sends everything; -1 after the client has closed the connection. */
static int send_all(int fd, const char *bytes, uint64_t length) {
  while (length > 0) {
    ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return -1;
    bytes += sent;
    length -= (uint64_t)sent;
  }
  return 0;
}

/* Reads the head of a request; 0 if there is none. */
static int read_head(int fd, char *head, size_t size) {
  size_t length = 0;
  while (length + 1 < size) {
    ssize_t got = recv(fd, head + length, 1, 0);
    if (got <= 0) return 0;
    head[++length] = 0;
    if (length >= 4 && memcmp(head + length - 4, "\r\n\r\n", 4) == 0) return 1;
  }
  return 0;
}

static void wait_for_close(int fd) {
  char byte;
  while (recv(fd, &byte, 1, 0) > 0) continue;
}

static fault next_fault(const char *head, uint64_t first, uint64_t last) {
  pthread_mutex_lock(&server.mutex);
  fault next = server.fault_next < server.fault_count ? server.faults[server.fault_next++] : server.always;
  if (server.requests < MOST_REQUESTS) {
    server.firsts[server.requests] = first;
    server.lasts[server.requests] = last;
  }
  server.requests++;
  snprintf(server.head, sizeof server.head, "%s", head);
  pthread_mutex_unlock(&server.mutex);
  return next;
}

/* Answers one request; 0 if the connection stays open. */
static int answer_request(int fd, const char *head) {
  unsigned long long first = 0, last = 0;
  const char *range = strcasestr(head, "\r\nRange: bytes=");
  if (!range || sscanf(range + 15, "%llu-%llu", &first, &last) != 2) return -1;
  fault now = next_fault(head, first, last);
  if (now.kind == TOKEN) now.kind = strstr(head, now.text) ? SERVE : STATUS, now.value = 403, now.text = "";
  const uint64_t length = last - first + 1;
  uint64_t declared = length, sent = length;
  const char *status = "206 Partial Content", *more = "";
  const char *from = server.bytes + first;
  char text[1024], content_range[128];
  snprintf(content_range, sizeof content_range, "bytes %llu-%llu/%llu", first, last, (unsigned long long)server.size);
  switch (now.kind) {
    case SERVE:
    case TOKEN:
      break;
    case STATUS:
      snprintf(text, sizeof text, "HTTP/1.1 %d Fault\r\nContent-Length: 5\r\n%s\r\nfault", (int)now.value,
               now.text ? now.text : "");
      return send_all(fd, text, strlen(text));
    case SILENT:
      wait_for_close(fd);
      return -1;
    case ENDLESS:
      if (send_all(fd, "HTTP/1.1 206 Partial Content\r\n", 30) != 0) return -1;
      while (send_all(fd, "X-More: 0123456789012345678901234567890123456789\r\n", 50) == 0) continue;
      return -1;
    case INFO:
      if (send_all(fd, "HTTP/1.1 103 Early Hints\r\nETag: \"none\"\r\n\r\n", 42) != 0) return -1;
      break;
    case CUT:
    case STALL:
      sent = now.value < length ? now.value : length;
      break;
    case SHORT:
      sent = declared = now.value;
      break;
    case WHOLE:
      status = "200 OK";
      content_range[0] = 0;
      from = server.bytes;
      sent = declared = server.size;
      break;
    case LESS:
      sent = declared = now.value;
      snprintf(content_range, sizeof content_range, "bytes %llu-%llu/%llu", first, first + now.value - 1,
               (unsigned long long)server.size);
      break;
    case SLICE:
      status = "200 OK";
      break;
    case HEADER:
      more = now.text;
      break;
    case RANGE:
      snprintf(content_range, sizeof content_range, "%s", now.text);
      break;
    case LONG:
      from = server.bytes; /* the file is longer than every range of such a test */
      sent = length + 100000;
      break;
  }
  int at = snprintf(text, sizeof text, "HTTP/1.1 %s\r\nETag: %s\r\n%s", status, server.etag, more);
  if (content_range[0]) at += snprintf(text + at, sizeof text - (size_t)at, "Content-Range: %s\r\n", content_range);
  if (now.kind == LONG) at += snprintf(text + at, sizeof text - (size_t)at, "Connection: close\r\n\r\n");
  else at += snprintf(text + at, sizeof text - (size_t)at, "Content-Length: %llu\r\n\r\n", (unsigned long long)declared);
  if (send_all(fd, text, (uint64_t)at) != 0 || send_all(fd, from, sent) != 0) return -1;
  if (now.kind == STALL) wait_for_close(fd);
  return now.kind == STALL || now.kind == CUT || now.kind == LONG ? -1 : 0;
}

static void *serve_connection(void *argument) {
  const int fd = (int)(intptr_t)argument;
  char head[4096];
  while (read_head(fd, head, sizeof head) && answer_request(fd, head) == 0) continue;
  close(fd);
  return NULL;
}

static void *accept_connections(void *unused) {
  (void)unused;
  for (;;) {
    int fd = accept(server.listener, NULL, NULL);
    if (fd < 0) return NULL;
    pthread_mutex_lock(&server.mutex);
    server.connections++;
    pthread_mutex_unlock(&server.mutex);
    pthread_t thread;
    require(pthread_create(&thread, NULL, serve_connection, (void *)(intptr_t)fd) == 0, "pthread_create");
    pthread_detach(thread);
  }
}

/* Starts to serve bytes, which stay there; to the end of the program. */
static void start_server(const char *bytes, uint64_t size, const char *etag) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  server.bytes = bytes;
  server.size = size;
  server.etag = etag;
  server.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  require(server.listener >= 0, "socket");
  require(bind(server.listener, (struct sockaddr *)&address, sizeof address) == 0, "bind");
  require(listen(server.listener, 64) == 0, "listen");
  require(getsockname(server.listener, (struct sockaddr *)&address, &length) == 0, "getsockname");
  server.port = ntohs(address.sin_port);
  pthread_t thread;
  require(pthread_create(&thread, NULL, accept_connections, NULL) == 0, "pthread_create");
  pthread_detach(thread);
}

/* Sets the faults of the next requests, and what all later ones get; forgets what was seen. */
static void set_server(const fault *faults, unsigned count, fault always) {
  pthread_mutex_lock(&server.mutex);
  if (count > 0) memcpy(server.faults, faults, count * sizeof *faults);
  server.fault_count = count;
  server.fault_next = 0;
  server.always = always;
  server.requests = server.connections = 0;
  pthread_mutex_unlock(&server.mutex);
}

#endif
