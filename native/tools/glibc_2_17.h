/*
 * Included before all else (-include) where the shim is built to run with glibc 2.17 and everything newer: takes the
 * first version of each function that has had several since, and system calls for those that libc did not have then.
 * native/tools/elf.ts checks that nothing newer is left. A build for this machine does not use this file.
 */
#ifndef FST_GLIBC_2_17_H
#define FST_GLIBC_2_17_H

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FST_VERSION_OF(name, version) __asm__(".symver " #name ", " #name "@GLIBC_" version)
#ifdef __x86_64__
#define FST_FIRST "2.2.5"
FST_VERSION_OF(dladdr, FST_FIRST);
FST_VERSION_OF(dlinfo, "2.3.3");
FST_VERSION_OF(pthread_condattr_setclock, "2.3.3");
#else
#define FST_FIRST "2.17"
FST_VERSION_OF(dladdr, FST_FIRST);
FST_VERSION_OF(dlinfo, FST_FIRST);
FST_VERSION_OF(pthread_condattr_setclock, FST_FIRST);
#endif
FST_VERSION_OF(dlerror, FST_FIRST);
FST_VERSION_OF(dlopen, FST_FIRST);
FST_VERSION_OF(dlsym, FST_FIRST);
FST_VERSION_OF(glob, FST_FIRST);
FST_VERSION_OF(pthread_create, FST_FIRST);
FST_VERSION_OF(pthread_detach, FST_FIRST);
FST_VERSION_OF(pthread_mutex_trylock, FST_FIRST);
FST_VERSION_OF(pthread_sigmask, FST_FIRST);

/* On 64-bit machines the kernel's struct stat and libc's are one. */
#define fstat(fd, status) ((int)syscall(SYS_fstat, fd, status))
#define stat(path, status) ((int)syscall(SYS_newfstatat, AT_FDCWD, path, status, 0))
#define lstat(path, status) ((int)syscall(SYS_newfstatat, AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW))
#define statx(...) ((int)syscall(SYS_statx, __VA_ARGS__))

#endif
