/*
 * What the stand-ins have in common: violations and injected failures, numbers from the environment, and the report.
 * Each stand-in is built with these files for itself.
 */
#ifndef FST_SIM_SHARED_H
#define FST_SIM_SHARED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_EXPORT __attribute__((visibility("default")))
#define SIM_PRINTF(text, rest) __attribute__((format(printf, text, rest)))

/* The name of the stand-in in messages. */
const char *sim_name(void);

/* ---- Configuration (configuration.c) ---- */

/* Ends the process with a message. */
_Noreturn void sim_die(const char *what);

/* Memory of zeros; ends the process where there is none. */
void *sim_zeroed(size_t bytes);

/* A number from a variable, within limits; ends the process if it holds anything else. */
double sim_number_of(const char *variable, double otherwise, double least, double most);

/* A path from a variable, empty if it is not set. */
void sim_path_of(const char *variable, char *path, size_t size);

/* ---- Violations and injected failures (faults.c); own lock, callable anywhere ---- */

/* Violations go to stderr as they happen, too. */
extern _Atomic bool sim_is_verbose;

/* `kind` is static. */
void sim_violation(const char *kind, const char *format, ...) SIM_PRINTF(2, 3);
void sim_violations_clear(void);

/* How many there were of a kind; NULL: of all. */
uint64_t sim_violations_of(const char *kind);

/* Replaces the failures to come by "FUNCTION:NTH:CODE,...", as sim.h says. 0; -1 changes nothing. */
int sim_fail(const char *spec);

/* Counts a call of a function; whether it fails, and with what. */
bool sim_injected(const char *function, int *code);
uint64_t sim_injected_count(void);

/* ---- The report (text.c) ---- */

/* Text for a buffer that may be too small; `length` is what it would have taken. */
typedef struct sim_text {
  char *buffer;
  size_t size, length;
} sim_text;

void sim_add(sim_text *into, const char *format, ...) SIM_PRINTF(2, 3);

/* A string of JSON. */
void sim_add_string(sim_text *into, const char *string);

/* `"violations":{"total":2,"kinds":{"bad-free":{"count":2,"first":["…","…"]}}}` */
void sim_add_violations(sim_text *into);

/* Appends a line with the report to a file, unless its path is empty. `report` is as fst_sim_report() in sim.h. */
void sim_write_report(const char *path, int (*report)(char *buffer, size_t size));

#endif
