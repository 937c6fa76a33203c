/*
 * What a killed process leaves behind: the library's shared memory, /dev/shm/hf3fs-iov-*, whose names do not tell whose
 * they are. So each ring writes its own down in a file beside it, and holds a lock on that file, which the kernel lets
 * go of when the process ends however it ends. A file without a lock is a leftover, and so is what it names.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "usrbio.h"

#define FOLDER "/dev/shm"
#define MEMORY_PREFIX FOLDER "/hf3fs-iov-"
#define RECORD_PREFIX "fastsafetensors-iov-"

/* The file behind an address of this process; 0, or -1 if there is none. */
static int file_behind(const void *address, char *path, size_t size) {
  FILE *maps = fopen("/proc/self/maps", "re");
  if (!maps) return -1;
  char line[4352];
  int found = -1;
  while (found != 0 && fgets(line, sizeof line, maps)) {
    uint64_t start, stop;
    char *name = strchr(line, '/');
    if (!name || sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &stop) != 2) continue;
    if ((uintptr_t)address < start || (uintptr_t)address >= stop) continue;
    name[strcspn(name, "\n")] = '\0';
    snprintf(path, size, "%s", name);
    found = 0;
  }
  fclose(maps);
  return found;
}

/* A new record, locked; its descriptor, or -1. */
static int create(char *path, size_t size) {
  for (unsigned number = 0; number < 10000; number++) {
    snprintf(path, size, FOLDER "/" RECORD_PREFIX "%d-%u", (int)getpid(), number);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST) continue;
    if (fd < 0) return -1;
    struct stat status;
    /* A sweep may have come between opening and locking: then it has taken the file away. */
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &status) == 0 && status.st_nlink > 0) return fd;
    close(fd);
  }
  return -1;
}

void fst_usrbio_record(fst_usrbio_ring *ring) {
  char memory[4096], text[8192];
  if (file_behind(ring->iov.base, memory, sizeof memory) != 0) return;
  if (strncmp(memory, MEMORY_PREFIX, strlen(MEMORY_PREFIX)) != 0) return;
  ring->record = create(ring->record_path, sizeof ring->record_path);
  if (ring->record < 0) return;
  int length = snprintf(text, sizeof text, "%s\n%s\n", memory, ring->iov.mount_point);
  if (write(ring->record, text, (size_t)length) != length) fst_usrbio_forget(ring);
}

void fst_usrbio_forget(fst_usrbio_ring *ring) {
  if (ring->record < 0) return;
  unlink(ring->record_path);
  close(ring->record);
  ring->record = -1;
}

/* Removes the links below a mount that lead to the memory: the daemon keeps what a link names. */
static void remove_links(const char *mount_point, const char *name) {
  char folder[4352], target[4096];
  snprintf(folder, sizeof folder, "%s/3fs-virt/iovs", mount_point);
  DIR *links = opendir(folder);
  if (!links) return;
  for (struct dirent *link; (link = readdir(links));) {
    ssize_t length = readlinkat(dirfd(links), link->d_name, target, sizeof target - 1);
    if (length <= 0) continue;
    target[length] = '\0';
    const char *last = strrchr(target, '/');
    if (last && strcmp(last + 1, name) == 0) unlinkat(dirfd(links), link->d_name, 0);
  }
  closedir(links);
}

/* Removes what an unlocked record of ours names. */
static void remove_leftover(int fd) {
  char text[8192];
  ssize_t length = read(fd, text, sizeof text - 1);
  if (length <= 0) return;
  text[length] = '\0';
  char *rest = NULL, *memory = strtok_r(text, "\n", &rest), *mount_point = strtok_r(NULL, "\n", &rest);
  struct stat status;
  if (!memory || !mount_point || strncmp(memory, MEMORY_PREFIX, strlen(MEMORY_PREFIX)) != 0) return;
  const char *name = memory + strlen(FOLDER) + 1;
  if (strchr(name, '/')) return;
  remove_links(mount_point, name);
  if (lstat(memory, &status) == 0 && status.st_uid == geteuid()) unlink(memory);
}

void fst_usrbio_sweep(void) {
  DIR *folder = opendir(FOLDER);
  if (!folder) return;
  for (struct dirent *entry; (entry = readdir(folder));) {
    if (strncmp(entry->d_name, RECORD_PREFIX, strlen(RECORD_PREFIX)) != 0) continue;
    int fd = openat(dirfd(folder), entry->d_name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) continue;
    struct stat status;
    if (fstat(fd, &status) == 0 && status.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0) {
      remove_leftover(fd);
      unlinkat(dirfd(folder), entry->d_name, 0);
    }
    close(fd);
  }
  closedir(folder);
}
