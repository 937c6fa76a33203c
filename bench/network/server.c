/*
 * An HTTP server of a folder's files on the loopback, for as long as its standard input is open:
 *
 *   server [-d delay in ms] FOLDER      prints its port
 *
 * It answers GET with and without a range, from the page cache by sendfile, on any number of connections at once; each
 * answer begins after the delay. It is meant to cost less than any reader of it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HEAD_BYTES 8192

static struct timespec pause_time;
static int folder;

static void die(const char *what) {
  fprintf(stderr, "server: error: %s: %s\n", what, strerror(errno));
  exit(1);
}

/* Reads the head of a request, and what follows it never: a client waits for its answer. 0 at the end. */
static int read_head(int connection, char *head) {
  size_t length = 0;
  while (length + 1 < HEAD_BYTES) {
    const ssize_t got = recv(connection, head + length, HEAD_BYTES - 1 - length, 0);
    if (got <= 0) return 0;
    length += (size_t)got;
    head[length] = 0;
    if (length >= 4 && memcmp(head + length - 4, "\r\n\r\n", 4) == 0) return 1;
  }
  return 0;
}

static int send_text(int connection, const char *text, int flags) {
  const size_t length = strlen(text);
  return send(connection, text, length, MSG_NOSIGNAL | flags) == (ssize_t)length;
}

/* Answers one request; 0 if the connection must be closed. */
static int answer(int connection, const char *head) {
  char name[1024], text[512];
  unsigned long long first = 0, last = UINT64_MAX;
  struct stat status;
  if (sscanf(head, "GET /%1023[^ ?]", name) != 1 || strchr(name, '/')) return 0;
  nanosleep(&pause_time, NULL);
  const int file = openat(folder, name, O_RDONLY | O_CLOEXEC);
  if (file < 0) return send_text(connection, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 0);
  if (fstat(file, &status) != 0) die("fstat");
  const char *range = strcasestr(head, "\r\nRange: bytes=");
  const int is_part = range && sscanf(range + 15, "%llu-%llu", &first, &last) >= 1;
  const unsigned long long size = (unsigned long long)status.st_size;
  if (last >= size) last = size - 1;
  if (is_part) snprintf(text, sizeof text, "Content-Range: bytes %llu-%llu/%llu\r\n", first, last, size);
  char whole[1024];
  snprintf(whole, sizeof whole, "HTTP/1.1 %s\r\nETag: \"%llx-%llx\"\r\nAccept-Ranges: bytes\r\n%sContent-Length: %llu\r\n\r\n",
           is_part ? "206 Partial Content" : "200 OK", size, (unsigned long long)status.st_mtim.tv_sec,
           is_part ? text : "", last - first + 1);
  int is_open = send_text(connection, whole, MSG_MORE);
  off_t at = (off_t)first;
  for (uint64_t left = last - first + 1; is_open && left > 0;) {
    const ssize_t sent = sendfile(connection, file, &at, left < (1u << 30) ? left : 1u << 30);
    if (sent <= 0) is_open = 0;
    else left -= (uint64_t)sent;
  }
  close(file);
  return is_open;
}

static void *serve(void *argument) {
  const int connection = (int)(intptr_t)argument, on = 1;
  char head[HEAD_BYTES];
  setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  while (read_head(connection, head) && answer(connection, head)) continue;
  close(connection);
  return NULL;
}

static void *accept_all(void *argument) {
  const int listener = (int)(intptr_t)argument;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, 256 << 10);
  for (;;) {
    pthread_t thread;
    const int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (connection < 0 && errno != EBADF) continue;
    if (connection < 0) return NULL;
    if (pthread_create(&thread, &attributes, serve, (void *)(intptr_t)connection) != 0) die("pthread_create");
  }
}

int main(int count, char **arguments) {
  long delay_ms = 0;
  for (int option; (option = getopt(count, arguments, "d:")) != -1;) {
    if (option != 'd') return 2;
    delay_ms = atol(optarg);
  }
  if (optind != count - 1) return 2;
  pause_time = (struct timespec){delay_ms / 1000, delay_ms % 1000 * 1000000};
  folder = open(arguments[optind], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) die(arguments[optind]);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 512) != 0 ||
      getsockname(listener, (struct sockaddr *)&address, &length) != 0) {
    die("listen");
  }
  pthread_t thread;
  if (pthread_create(&thread, NULL, accept_all, (void *)(intptr_t)listener) != 0) die("pthread_create");
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  char byte;
  while (read(STDIN_FILENO, &byte, 1) > 0) continue;
  return 0;
}
