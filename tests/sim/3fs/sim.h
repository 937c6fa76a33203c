/*
 * Stand-in for 3FS' libhf3fs_api_shared.so over an ordinary folder. It is not 3FS: it has no cluster and no RDMA.
 * Its threads read ordinary files with pread, in any order and late, and it checks the rules of the real library, so
 * that a mistake of the program that the real library may hide causes wrong bytes, an error, a stall or a recorded
 * violation.
 *
 *   HF3FS_LIB_DIR=<the folder it was built to>   FST_SIM_3FS_MOUNT=<a folder>
 *
 * The folder acts as the mount point once it holds a folder 3fs-virt/iovs, as every 3FS mount does.
 *
 * What it does as the real library does
 *   - extract_mount_point ends the process on a path that does not exist.
 *   - Loading it sizes a table by the hard limit of open files, and ends the process where that is absurd.
 *   - reg_fd gives 0 or less for success and a positive errno otherwise, EINVAL for what is registered already. It
 *     duplicates the descriptor. A descriptor closed without dereg_fd stays registered: its number is EINVAL later.
 *     dereg_fd does nothing once the mount is gone.
 *   - prep_io checks bounds, direction and registration; a ring of N entries accepts N reads without a wait.
 *   - A positive io_depth holds reads back until as many are queued. Without submit_ios a read may start, or may not.
 *   - Completions come in any order; a read past the end of the file is short.
 *   - wait_for_ios gives fewer than `least` after the timeout, which is not an error.
 *   - An iov is shared memory with a name, /dev/shm/hf3fs-iov-*, which outlives a process that is killed unless
 *     iovunlink has taken the name away, and a symbolic link to it in 3fs-virt/iovs, which the real 3FS removes when
 *     the process ends. Reads in flight go on after their iov is destroyed.
 *
 * Where it is stricter
 *   - The target of a read is filled with 0xDB when it is prepared, and beyond what a short read found.
 *   - Reads in flight must not overlap in memory. A ring changes hands between threads only while it is empty, and
 *     only one thread at a time prepares or waits.
 *
 * Environment, read when the library is loaded and again by fst_sim_3fs_reset()
 *   FST_SIM_3FS_MOUNT=           the folder; read whenever it matters
 *   FST_SIM_3FS_TABLE=67108864   the largest hard limit of open files that it can be loaded with
 *   FST_SIM_3FS_WORKERS=4        threads that read, at most 64
 *   FST_SIM_3FS_DELAY_US=50      longest random delay before a read, microseconds; 0: none
 *   FST_SIM_3FS_LATENCY_US=0     what every read takes in any case, microseconds; overlaps with that of other reads
 *   FST_SIM_3FS_GBPS=0           GB/s of the link, of all rings together; 0: as fast as it goes
 *   FST_SIM_3FS_EARLY=25         percent of the reads that may start before submit_ios
 *   FST_SIM_3FS_SEED=1           of all that is random
 *   FST_SIM_3FS_CHECKS=1         0: no 0xDB fills and no search for overlaps, for measuring
 *   FST_SIM_3FS_FAIL=            injected failures, see fst_sim_3fs_fail()
 *   FST_SIM_3FS_REPORT=          file that gets one line of JSON when the process ends
 *   FST_SIM_3FS_VERBOSE=0        1: violations to stderr as they happen
 */
#ifndef FST_SIM_3FS_H
#define FST_SIM_3FS_H

#include <stddef.h>
#include <stdint.h>

/* Names what this is: "fastsafetensors 3FS stand-in". Static. */
const char *fst_sim_3fs_name(void);

/*
 * Writes the report, one JSON object and its NUL, into `size` bytes at `buffer`; gives the length it has without the
 * NUL, which is `size` or more if it did not fit. Keys: live, counts, violations.
 */
int fst_sim_3fs_report(char *buffer, size_t size);

/*
 * How many violations there were since the start or fst_sim_3fs_reset(); of one kind. The kinds are
 *   bad-dereg, bad-direction, bad-iov, bad-length, bad-ring, destroyed-while-used, double-register, not-registered,
 *   out-of-bounds, overlap, ring-changed-hands, two-preparing, two-waiting.
 */
uint64_t fst_sim_3fs_violations(void);
uint64_t fst_sim_3fs_violations_of(const char *kind);

/* What is held now. */
uint64_t fst_sim_3fs_live_iovs(void);
uint64_t fst_sim_3fs_live_rings(void);
uint64_t fst_sim_3fs_live_fds(void);       /* registered */
uint64_t fst_sim_3fs_live_reads(void);     /* prepared, without a wait for them */
uint64_t fst_sim_3fs_live_total(void);     /* all of these: 0 when nothing leaked */

/* What has been done since the start or fst_sim_3fs_reset(). */
uint64_t fst_sim_3fs_reads(void);
uint64_t fst_sim_3fs_bytes(void);
uint64_t fst_sim_3fs_most_in_flight(void); /* of one ring */
uint64_t fst_sim_3fs_out_of_order(void);   /* reads that came before one that was prepared earlier in their ring */
uint64_t fst_sim_3fs_rings_made(void);
uint64_t fst_sim_3fs_abandoned(void);      /* reads whose ring was destroyed before they were complete */

/*
 * Replaces the injected failures by "FUNCTION:NTH:CODE,..." and counts calls from 1 again; NULL or "" takes them away.
 * NTH is a number, a number and "+" for that call and all later ones, or "*".
 *   FUNCTION   iovcreate, iorcreate4, reg_fd, prep_io, submit_ios or wait_for_ios: the call does nothing and gives
 *              CODE, as the function would give it; is_hf3fs: gives CODE
 *   read       the NTH read to start. CODE below 0 is its result; 0 and above: it finds at most so many bytes
 *   lost       the NTH read to start never completes; CODE means nothing
 *   gone       the NTH read to start finds that the mount is gone: it never completes, nor does any later read, no ring
 *              or iov can be made and no descriptor registered (ENOTCONN), until the failures are replaced
 * Gives 0, or -1 for an unreadable text, which changes nothing.
 */
int fst_sim_3fs_fail(const char *spec);

/* 1: no read starts from now on; 0: all that wait start. For tests that change a file before its bytes are read. */
void fst_sim_3fs_hold(int held);

/*
 * Waits for all reads that are running, reads the environment again, and forgets violations, counts and injected
 * failures. What is held stays held. Not while another thread is in a call.
 */
void fst_sim_3fs_reset(void);

#endif
