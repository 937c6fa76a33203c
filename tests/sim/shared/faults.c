/* Violations: what the program did that it must not. Injected failures: what it must be able to bear. */
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared.h"

enum { KINDS = 64, TEXTS = 4 /* stored for one kind */, TEXT_BYTES = 240, RULES = 64 };

_Atomic bool sim_is_verbose;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct {
  const char *kind;
  uint64_t count;
  char texts[TEXTS][TEXT_BYTES];
} kinds[KINDS];
static size_t kind_count;

void sim_violation(const char *kind, const char *format, ...) {
  char text[TEXT_BYTES];
  va_list rest;
  va_start(rest, format);
  vsnprintf(text, sizeof text, format, rest);
  va_end(rest);
  pthread_mutex_lock(&lock);
  size_t i = 0;
  while (i < kind_count && strcmp(kinds[i].kind, kind) != 0) i++;
  if (i == KINDS) sim_die("too many kinds of violations");
  if (i == kind_count) {
    kinds[kind_count++].kind = kind;
    kinds[i].count = 0;
  }
  if (kinds[i].count < TEXTS) memcpy(kinds[i].texts[kinds[i].count], text, sizeof text);
  kinds[i].count++;
  pthread_mutex_unlock(&lock);
  if (sim_is_verbose) fprintf(stderr, "%s: %s: %s\n", sim_name(), kind, text);
}

void sim_violations_clear(void) {
  pthread_mutex_lock(&lock);
  kind_count = 0;
  pthread_mutex_unlock(&lock);
}

uint64_t sim_violations_of(const char *kind) {
  uint64_t count = 0;
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < kind_count; i++) {
    if (!kind || strcmp(kinds[i].kind, kind) == 0) count += kinds[i].count;
  }
  pthread_mutex_unlock(&lock);
  return count;
}

void sim_add_violations(sim_text *into) {
  sim_add(into, "\"violations\":{\"total\":%" PRIu64 ",\"kinds\":{", sim_violations_of(NULL));
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < kind_count; i++) {
    sim_add(into, "%s\"%s\":{\"count\":%" PRIu64 ",\"first\":[", i ? "," : "", kinds[i].kind, kinds[i].count);
    for (size_t t = 0; t < TEXTS && t < kinds[i].count; t++) {
      sim_add(into, "%s", t ? "," : "");
      sim_add_string(into, kinds[i].texts[t]);
    }
    sim_add(into, "]}");
  }
  pthread_mutex_unlock(&lock);
  sim_add(into, "}}");
}

/* Injected failures */

typedef struct rule {
  char function[64];
  uint64_t first, last; /* calls, from 1 */
  int code;
  uint64_t calls;
} rule;
static rule rules[RULES];
static size_t rule_count;
static uint64_t injected;

/* Reads one "FUNCTION:NTH:CODE" and gives what follows it, or NULL. */
static const char *read_rule(const char *text, rule *into) {
  size_t length = strcspn(text, ":,");
  if (length == 0 || text[length] != ':' || length >= sizeof into->function) return NULL;
  memcpy(into->function, text, length);
  text += length + 1;
  char *end;
  if (*text == '*') {
    into->first = 1;
    into->last = UINT64_MAX;
    end = (char *)text + 1;
  } else {
    if (*text < '0' || *text > '9') return NULL;
    into->first = into->last = strtoull(text, &end, 10);
    if (into->first == 0) return NULL;
    if (*end == '+') {
      into->last = UINT64_MAX;
      end++;
    }
  }
  if (*end != ':') return NULL;
  text = end + 1;
  long code = strtol(text, &end, 10);
  if (end == text || (*end != ',' && *end != '\0')) return NULL;
  into->code = (int)code;
  return *end == ',' ? end + 1 : end;
}

int sim_fail(const char *spec) {
  rule read[RULES];
  size_t count = 0;
  memset(read, 0, sizeof read);
  for (const char *text = spec ? spec : ""; *text; count++) {
    if (count == RULES || !(text = read_rule(text, &read[count]))) return -1;
  }
  pthread_mutex_lock(&lock);
  memcpy(rules, read, sizeof rules);
  rule_count = count;
  injected = 0;
  pthread_mutex_unlock(&lock);
  return 0;
}

bool sim_injected(const char *function, int *code) {
  bool fires = false;
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < rule_count; i++) {
    rule *candidate = &rules[i];
    if (strcmp(candidate->function, function) != 0) continue;
    candidate->calls++;
    if (fires || candidate->calls < candidate->first || candidate->calls > candidate->last) continue;
    fires = true;
    injected++;
    *code = candidate->code;
  }
  pthread_mutex_unlock(&lock);
  return fires;
}

uint64_t sim_injected_count(void) {
  pthread_mutex_lock(&lock);
  uint64_t count = injected;
  pthread_mutex_unlock(&lock);
  return count;
}
