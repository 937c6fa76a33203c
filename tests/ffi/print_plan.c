/*
 * Reads the memory of a plan from standard input and prints the fields that C sees, as JSON, to standard error; then
 * fills in the fields that lanes write, and writes the memory to standard output.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"

#define U(value) ((unsigned long long)(value))

int main(void) {
  static _Alignas(64) char memory[1 << 16];
  size_t length = fread(memory, 1, sizeof memory, stdin);
  fst_plan *plan = (fst_plan *)memory;
  const fst_plan_file *files = fst_plan_files(plan);
  const fst_segment *segments = fst_plan_segments(plan);
  char *done = (char *)fst_plan_done(plan);
  fprintf(stderr, "{\"stagingBytes\":%u,\"destinationKind\":%u,\"bytes\":%llu,\"files\":[", plan->staging_bytes, plan->destination_kind,
          U(done + plan->segment_count - memory));
  for (uint32_t i = 0; i < plan->file_count; i++) {
    fprintf(stderr, "%s{\"fd\":%d,\"fdDirect\":%d,\"size\":%llu,\"mtimeSeconds\":%lld,\"mtimeNanoseconds\":%lld}",
            i ? "," : "", files[i].fd, files[i].fd_direct, U(files[i].size), (long long)files[i].mtime_seconds,
            (long long)files[i].mtime_nanoseconds);
  }
  fprintf(stderr, "],\"segments\":[");
  for (uint32_t i = 0; i < plan->segment_count; i++) {
    const fst_segment *s = &segments[i];
    fprintf(stderr,
            "%s{\"file\":%u,\"fileOffset\":%llu,\"run\":%llu,\"outerCount\":%u,\"outerStride\":%llu,\"innerCount\":%u,"
            "\"innerStride\":%llu,\"from\":%u,\"to\":%u,\"destination\":%llu,\"allocation\":%llu}",
            i ? "," : "", s->file, U(s->file_offset), U(s->run), s->outer_count, U(s->outer_stride), s->inner_count,
            U(s->inner_stride), s->from, s->to, U(s->destination), U(s->allocation));
  }
  fprintf(stderr, "]}");
  plan->next = 11;
  plan->wake = 4000000000u;
  plan->landed_bytes = (uint64_t)1 << 40;
  plan->buffered_bytes = ((uint64_t)1 << 41) + 1;
  plan->direct_bytes = ((uint64_t)1 << 42) + 2;
  plan->direct_refused = 3;
  plan->failed_segment = 5;
  plan->failed_code = -6;
  plan->failed_offset = ((uint64_t)1 << 43) + 7;
  plan->failed_expected = ((uint64_t)1 << 44) + 8;
  plan->failed_actual = ((uint64_t)1 << 45) + 9;
  plan->failure = FST_FAILURE_CHANGED;
  for (uint32_t i = 0; i < plan->segment_count; i++) done[i] = (char)(i % 2);
  fwrite(memory, 1, length, stdout);
  return 0;
}
