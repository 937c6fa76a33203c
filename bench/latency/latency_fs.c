/*
 * A file system of safetensors shards that answers every read after a fixed time, for as long as one command runs:
 *
 *   latency_fs [-d delay in ms] [-n shards] [-b data bytes of a shard] [-w reads] [-e read] FOLDER COMMAND [ARGUMENT...]
 *
 * For tests, -w answers no read of data before so many wait at the same time, or 20 seconds have passed, and fails in
 * the end if they never did; -e answers that read of data, counted from 1, with an error.
 *
 * It mounts on FOLDER, runs COMMAND, and ends with its status. The files are FOLDER/shard_0.safetensors and so on, each
 * with BF16 tensors of 16 MiB. Their bytes come from a formula: nothing is stored, and no disk takes part. Any number
 * of reads wait at the same time: only their latency is limited, as on a wide network file system.
 *
 * The mount is in a mount namespace of its own, which only this process and the command share. The kernel removes it
 * with the last of them: no failure and no signal, not even SIGKILL, leaves a mount behind.
 *
 * The files are opened without FOPEN_DIRECT_IO. With that flag the kernel sends the pieces of a blocking read one after
 * the other (a piece has at most max_pages pages), so that one read of 4 MiB would wait four times. A reader with
 * O_DIRECT gets what FUSE_ASYNC_DIO promises: all pieces at once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE ((uint64_t)4096)
#define PERIOD (61 * PAGE) /* fits into a core's cache; a multiple of no power of two, so that a wrong offset shows */
#define TENSOR_BYTES ((uint64_t)16 << 20)
#define MOST_SHARDS 64
#define REQUEST_BYTES ((size_t)64 << 10) /* more than the kernel sends to a server that allows writes of a page */
#define READ_PIECE ((uint32_t)1 << 20)   /* the most pages that the kernel allows by default (fs.fuse.max_pages_limit) */
#define BACKGROUND 8192                  /* pieces that may wait at the same time */
#define READERS 2
#define PIECES (READ_PIECE / PERIOD + 4) /* parts of an answer: status, header, and the repeated pattern */
#define MOST_HOLD 20                     /* seconds that a read waits for others */
#define FOREVER 3600                     /* seconds that the kernel may keep names and attributes */

/* A read that waits for its time. */
struct pending {
  struct pending *next;
  struct timespec due;
  uint64_t unique, node, offset, number; /* of the reads of data; 0: of the header */
  uint32_t size;
};

static struct {
  int fuse;
  unsigned shards;
  uint64_t delay_ns, data_bytes, head_bytes;
  uint64_t least_waiting, bad_read; /* -w and -e; 0: none */
  uint64_t waiting, most_waiting, data_reads;
  char *heads[MOST_SHARDS];
  char *pattern;
  pthread_mutex_t lock;
  pthread_cond_t filled;
  struct pending *first, **last; /* every read has the same delay: the order of arrival is the order of times */
} fs = {.lock = PTHREAD_MUTEX_INITIALIZER, .filled = PTHREAD_COND_INITIALIZER};

static void die(const char *what) {
  fprintf(stderr, "latency_fs: error: %s: %s\n", what, strerror(errno));
  exit(1);
}

/* The header of a shard, padded with spaces to whole pages, at most `capacity` bytes. */
static uint64_t write_head(char *head, uint64_t capacity, unsigned shard) {
  uint64_t at = 8;
  for (uint64_t i = 0; i < fs.data_bytes / TENSOR_BYTES; i++) {
    int length = snprintf(head + at, capacity - at,
                          "%c\"shard_%u.layer_%04u.weight\":{\"dtype\":\"BF16\",\"shape\":[2048,4096],"
                          "\"data_offsets\":[%llu,%llu]}",
                          i == 0 ? '{' : ',', shard, (unsigned)i, (unsigned long long)(i * TENSOR_BYTES),
                          (unsigned long long)((i + 1) * TENSOR_BYTES));
    at += (uint64_t)length;
  }
  head[at++] = '}';
  uint64_t end = (at + PAGE - 1) & ~(PAGE - 1), json = end - 8;
  memset(head + at, ' ', end - at);
  memcpy(head, &json, 8); /* little-endian, as every machine that runs this */
  return end;
}

/* Bytes of word `index` of the pattern: splitmix64. */
static uint64_t word_of(uint64_t index) {
  uint64_t z = (index + 1) * UINT64_C(0x9E3779B97F4A7C15);
  z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
  return z ^ (z >> 31);
}

static void prepare_content(void) {
  uint64_t capacity = (fs.data_bytes / TENSOR_BYTES + 1) * 160 + 2 * PAGE;
  for (unsigned i = 0; i < fs.shards; i++) {
    if (!(fs.heads[i] = malloc(capacity))) die("malloc");
    uint64_t bytes = write_head(fs.heads[i], capacity, i);
    if (bytes > fs.head_bytes) fs.head_bytes = bytes;
  }
  for (unsigned i = 0; i < fs.shards; i++) { /* all heads have one length, so that all files have one size */
    uint64_t json, wanted = fs.head_bytes - 8;
    memcpy(&json, fs.heads[i], 8);
    memset(fs.heads[i] + 8 + json, ' ', wanted - json);
    memcpy(fs.heads[i], &wanted, 8);
  }
  fs.pattern = mmap(NULL, PERIOD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (fs.pattern == MAP_FAILED) die("mmap");
  for (uint64_t i = 0; i < PERIOD / 8; i++) ((uint64_t *)(void *)fs.pattern)[i] = word_of(i);
}

static uint64_t file_bytes(void) {
  return fs.head_bytes + fs.data_bytes;
}

/* Sends an answer of `count` parts; the first part is for the status. */
static void answer(uint64_t unique, int error, struct iovec *parts, int count) {
  struct fuse_out_header out = {.error = -error, .unique = unique};
  parts[0] = (struct iovec){&out, sizeof out};
  size_t length = 0;
  for (int i = 0; i < count; i++) length += parts[i].iov_len;
  out.len = (uint32_t)length;
  /* ENOENT: the reader was interrupted; ENODEV: the command has ended */
  if (writev(fs.fuse, parts, count) < 0 && errno != ENOENT && errno != ENODEV) die("writev to /dev/fuse");
}

static void answer_value(uint64_t unique, const void *value, size_t length) {
  struct iovec parts[2] = {{0}, {(void *)(uintptr_t)value, length}};
  answer(unique, 0, parts, 2);
}

static void answer_error(uint64_t unique, int error) {
  struct iovec part;
  answer(unique, error, &part, 1);
}

static void answer_read(const struct pending *read) {
  struct iovec parts[PIECES];
  const unsigned shard = (unsigned)(read->node - FUSE_ROOT_ID - 1);
  uint64_t at = read->offset, end = at + read->size;
  int count = 1;
  if (end > file_bytes()) end = file_bytes();
  if (at < fs.head_bytes && at < end) {
    uint64_t stop = end < fs.head_bytes ? end : fs.head_bytes;
    parts[count++] = (struct iovec){fs.heads[shard] + at, stop - at};
    at = stop;
  }
  while (at < end) { /* every shard begins at another page of the pattern */
    uint64_t place = (at + shard * PAGE) % PERIOD;
    uint64_t length = PERIOD - place < end - at ? PERIOD - place : end - at;
    parts[count++] = (struct iovec){fs.pattern + place, length};
    at += length;
  }
  answer(read->unique, 0, parts, count);
}

static int is_data(const struct pending *read) {
  return read->offset >= fs.head_bytes;
}

/* Whether a read waits for others (-w). The caller has the lock. */
static int is_held(const struct pending *read) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return is_data(read) && fs.most_waiting < fs.least_waiting && now.tv_sec - read->due.tv_sec < MOST_HOLD;
}

static void *answer_reads(void *unused) {
  (void)unused;
  for (;;) {
    pthread_mutex_lock(&fs.lock);
    while (!fs.first || is_held(fs.first)) {
      struct timespec soon;
      clock_gettime(CLOCK_REALTIME, &soon);
      soon.tv_sec++;
      pthread_cond_timedwait(&fs.filled, &fs.lock, &soon);
    }
    struct pending *read = fs.first;
    if (!(fs.first = read->next)) fs.last = &fs.first;
    fs.waiting -= is_data(read);
    pthread_mutex_unlock(&fs.lock);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &read->due, NULL) == EINTR) continue;
    if (read->number > 0 && read->number == fs.bad_read) answer_error(read->unique, EIO);
    else answer_read(read);
    free(read);
  }
  return NULL;
}

static void queue_read(const struct fuse_in_header *in, const struct fuse_read_in *what) {
  struct pending *read = malloc(sizeof *read);
  if (!read) die("malloc");
  *read = (struct pending){.unique = in->unique, .node = in->nodeid, .offset = what->offset, .size = what->size};
  pthread_mutex_lock(&fs.lock);
  clock_gettime(CLOCK_MONOTONIC, &read->due);
  uint64_t ns = (uint64_t)read->due.tv_nsec + fs.delay_ns;
  read->due.tv_sec += (time_t)(ns / 1000000000);
  read->due.tv_nsec = (long)(ns % 1000000000);
  *fs.last = read;
  fs.last = &read->next;
  if (is_data(read)) {
    read->number = ++fs.data_reads;
    if (++fs.waiting > fs.most_waiting) fs.most_waiting = fs.waiting;
  }
  if (fs.most_waiting >= fs.least_waiting) pthread_cond_signal(&fs.filled);
  else pthread_cond_broadcast(&fs.filled);
  pthread_mutex_unlock(&fs.lock);
}

static struct fuse_attr attributes(uint64_t node) {
  struct fuse_attr attr = {.ino = node, .nlink = 1, .blksize = PAGE, .mode = S_IFDIR | 0555};
  if (node == FUSE_ROOT_ID) return attr;
  attr.mode = S_IFREG | 0444;
  attr.size = file_bytes();
  attr.blocks = attr.size / 512;
  return attr;
}

static void look_up(const struct fuse_in_header *in, const char *name) {
  for (unsigned i = 0; i < fs.shards; i++) {
    char known[40];
    snprintf(known, sizeof known, "shard_%u.safetensors", i);
    if (in->nodeid != FUSE_ROOT_ID || strcmp(name, known) != 0) continue;
    struct fuse_entry_out out = {.nodeid = FUSE_ROOT_ID + 1 + i, .entry_valid = FOREVER, .attr_valid = FOREVER};
    out.attr = attributes(out.nodeid);
    answer_value(in->unique, &out, sizeof out);
    return;
  }
  answer_error(in->unique, ENOENT);
}

static void initialize(const struct fuse_in_header *in, const struct fuse_init_in *offered) {
  struct fuse_init_out out = {
      .major = FUSE_KERNEL_VERSION,
      .minor = FUSE_KERNEL_MINOR_VERSION < offered->minor ? FUSE_KERNEL_MINOR_VERSION : offered->minor,
      .max_readahead = READ_PIECE,
      .flags = offered->flags & (FUSE_ASYNC_READ | FUSE_ASYNC_DIO | FUSE_MAX_PAGES | FUSE_PARALLEL_DIROPS),
      .max_background = BACKGROUND,
      .congestion_threshold = BACKGROUND,
      .max_write = (uint32_t)PAGE,
      .time_gran = 1,
      .max_pages = READ_PIECE / PAGE,
  };
  answer_value(in->unique, &out, sizeof out);
}

static void handle(const struct fuse_in_header *in, const void *body) {
  if (in->opcode == FUSE_READ) return queue_read(in, body);
  if (in->opcode == FUSE_INIT) return initialize(in, body);
  if (in->opcode == FUSE_LOOKUP) return look_up(in, body);
  if (in->opcode == FUSE_GETATTR) {
    struct fuse_attr_out out = {.attr_valid = FOREVER, .attr = attributes(in->nodeid)};
    return answer_value(in->unique, &out, sizeof out);
  }
  if (in->opcode == FUSE_OPEN) {
    struct fuse_open_out out = {0};
    return answer_value(in->unique, &out, sizeof out);
  }
  if (in->opcode == FUSE_STATFS) {
    struct fuse_statfs_out out = {.st = {.bsize = PAGE, .frsize = PAGE, .namelen = 255}};
    return answer_value(in->unique, &out, sizeof out);
  }
  if (in->opcode == FUSE_RELEASE) return answer_error(in->unique, 0);
  /* these have no answer: a read that was interrupted is answered at its time */
  if (in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET || in->opcode == FUSE_INTERRUPT) return;
  answer_error(in->unique, ENOSYS);
}

static void *take_requests(void *unused) {
  (void)unused;
  char *request = aligned_alloc(64, REQUEST_BYTES);
  if (!request) die("aligned_alloc");
  for (;;) {
    ssize_t length = read(fs.fuse, request, REQUEST_BYTES);
    if (length < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN)) continue;
    if (length < 0 && errno == ENODEV) return NULL;
    if (length < (ssize_t)sizeof(struct fuse_in_header)) die("read of /dev/fuse");
    handle((const struct fuse_in_header *)(const void *)request, request + sizeof(struct fuse_in_header));
  }
}

static void write_file(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, text, strlen(text)) < 0) die(path);
  close(fd);
}

/* A mount namespace; without the right to it, one in a user namespace, where it is allowed. */
static void enter_namespace(void) {
  char user[40], group[40];
  snprintf(user, sizeof user, "0 %u 1", (unsigned)geteuid());
  snprintf(group, sizeof group, "0 %u 1", (unsigned)getegid());
  if (unshare(CLONE_NEWNS) != 0) {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) die("a mount namespace is not allowed here: unshare");
    write_file("/proc/self/setgroups", "deny");
    write_file("/proc/self/uid_map", user);
    write_file("/proc/self/gid_map", group);
  }
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) die("mount");
}

static void mount_on(const char *folder) {
  enter_namespace(); /* first: the kernel demands that /dev/fuse is opened in the user namespace of the mount */
  if ((fs.fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC)) < 0) die("FUSE is not available here: /dev/fuse");
  char options[120];
  snprintf(options, sizeof options, "fd=%d,rootmode=40555,user_id=0,group_id=0,max_read=%u", fs.fuse, READ_PIECE);
  if (mount("latency_fs", folder, "fuse", MS_NOSUID | MS_NODEV | MS_RDONLY, options) != 0)
    die("a mount is not allowed here: mount");
}

static pid_t run(char **command) {
  pid_t parent = getpid(), child = fork();
  if (child < 0) die("fork");
  if (child > 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() == parent) execvp(command[0], command);
  fprintf(stderr, "latency_fs: error: %s: %s\n", command[0], strerror(errno));
  _exit(127);
}

int main(int argc, char **argv) {
  int option;
  fs.shards = 4;
  fs.data_bytes = (uint64_t)1 << 30;
  while ((option = getopt(argc, argv, "+d:n:b:w:e:")) != -1) {
    if (option == 'd') fs.delay_ns = strtoull(optarg, NULL, 10) * 1000000;
    else if (option == 'n') fs.shards = (unsigned)atoi(optarg);
    else if (option == 'b') fs.data_bytes = strtoull(optarg, NULL, 10);
    else if (option == 'w') fs.least_waiting = strtoull(optarg, NULL, 10);
    else if (option == 'e') fs.bad_read = strtoull(optarg, NULL, 10);
    else return 2;
  }
  if (argc - optind < 2 || fs.shards < 1 || fs.shards > MOST_SHARDS || fs.data_bytes < TENSOR_BYTES ||
      fs.data_bytes % TENSOR_BYTES != 0) {
    fprintf(stderr, "usage: latency_fs [-d ms] [-n shards] [-b bytes, a multiple of 16 MiB] [-w reads] [-e read] FOLDER "
                    "COMMAND...\n");
    return 2;
  }
  fs.last = &fs.first;
  prepare_content();
  mount_on(argv[optind]);
  prctl(PR_SET_PDEATHSIG, SIGKILL); /* the benchmark has ended; a new user namespace would clear this */
  pid_t child = run(argv + optind + 1);
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  for (long i = 0; i < READERS + (cores < 4 ? 4 : cores); i++) {
    pthread_t id;
    if ((errno = pthread_create(&id, NULL, i < READERS ? take_requests : answer_reads, NULL)) != 0) die("pthread_create");
  }
  int status;
  while (waitpid(child, &status, 0) < 0) continue;
  pthread_mutex_lock(&fs.lock);
  if (fs.most_waiting < fs.least_waiting) {
    fprintf(stderr, "latency_fs: error: %llu reads waited at the same time\n", (unsigned long long)fs.most_waiting);
    return 1;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
