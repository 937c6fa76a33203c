/*
 * Short messages between ranks, of one tag, each with the group that it is for.
 *
 * A rank that fails or leaves says so to every other rank. The MPI thread always has one receive waiting, so that whoever
 * waits in a call hears of it, and nobody waits for a rank that will not come.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mpi.h"

#define HEAD (sizeof(fst_mpi_message) - offsetof(fst_mpi_message, group))

static fst_mpi_message *outbox;  /* not sent yet */
static fst_mpi_message *arrival; /* its `request` receives it; NULL: none */
static int arrival_error;
static fst_mpi_message *orphans; /* for groups that are not made here yet, or have been left */
static int orphan_count;

static size_t longest(void) {
  return HEAD + 2 * sizeof(fst_group_record) + (size_t)fst_mpi.size * sizeof(uint64_t);
}

static void append(fst_mpi_message **list, fst_mpi_message *message) {
  while (*list) list = &(*list)->next;
  message->next = NULL;
  *list = message;
}

fst_mpi_message *fst_mpi_compose(const fst_mpi_group *group, enum fst_mpi_message_kind kind, const void *payload,
                                 size_t bytes) {
  fst_mpi_message *message = calloc(1, sizeof *message + bytes);
  if (!message) return NULL;
  message->group = group->id;
  message->sequence = group->completed;
  message->kind = kind;
  message->from = group->rank;
  message->bytes = bytes;
  if (payload) memcpy(message->payload, payload, bytes);
  return message;
}

enum fst_mpi_outcome fst_mpi_send(const fst_mpi_group *group, int rank, fst_mpi_message *message,
                                  fst_group_call *call) {
  const fst_mpi_library *mpi = fst_mpi.library;
  if (!message) {
    call->status = FST_GROUP_MEMORY;
    return FST_MPI_FAILURE;
  }
  int code = mpi->MPI_Isend(&message->group, (int)(HEAD + message->bytes), mpi->byte, group->members[rank].world,
                            FST_MPI_TAG_MESSAGE, fst_mpi.comm, &message->request);
  if (code == 0) {
    /* Most are sent at once, and nobody has to look after them then. */
    if (fst_mpi_take_back(&message->request, 1, 0)) append(&outbox, message);
    else free(message);
    return FST_MPI_MOVED;
  }
  free(message);
  return fst_mpi_trouble(call, "MPI_Isend", code);
}

void fst_mpi_tell(const fst_mpi_group *group, enum fst_mpi_message_kind kind, int only, int32_t blamed,
                  const char *text) {
  fst_group_call call; /* a rank that cannot be told finds out by itself, later */
  for (int rank = 0; rank < group->size; rank++) {
    if (rank == group->rank || (only >= 0 && rank != only)) continue;
    fst_mpi_message *message = fst_mpi_compose(group, kind, text, strnlen(text, sizeof(fst_group_record)));
    if (message) message->blamed = blamed;
    fst_mpi_send(group, rank, message, &call);
  }
}

/* ---- What others have said ---- */

static void take(fst_mpi_group *group, fst_mpi_message *said) {
  char text[512];
  if (said->from < 0 || said->from >= group->size || group->left) said->kind = 0;
  switch (said->kind) {
    case 0:
      break;
    case FST_MPI_RECORD:
    case FST_MPI_VERDICT:
    case FST_MPI_PAIR:
      append(&group->inbox, said);
      return;
    case FST_MPI_EMPTY:
      group->members[said->from].empty = 1;
      break;
    case FST_MPI_HURRY:
      group->hurried = said->sequence + 1;
      break;
    default:
      snprintf(text, sizeof text, "%.*s", (int)said->bytes, said->payload);
      fst_mpi_note(group, said->from, said->sequence, said->blamed, text);
  }
  free(said);
}

static void heed(fst_mpi_message *said) {
  if (said->group == fst_mpi.everyone.id) {
    take(&fst_mpi.everyone, said);
    return;
  }
  for (fst_mpi_group *group = fst_mpi.groups; group; group = group->next) {
    if (group->id != said->group) continue;
    take(group, said);
    return;
  }
  append(&orphans, said);
  if (++orphan_count <= 64 + 4 * fst_mpi.size) return;
  fst_mpi_message *oldest = orphans;
  orphans = oldest->next;
  orphan_count--;
  free(oldest);
}

static int listen_on(void) {
  if (arrival_error) return 0; /* no rank can be heard any more: all calls fail */
  const fst_mpi_library *mpi = fst_mpi.library;
  fst_mpi_message *message = calloc(1, sizeof *message + longest());
  if (!message) return 0;
  arrival_error = mpi->MPI_Irecv(&message->group, (int)longest(), mpi->byte, mpi->any_source, FST_MPI_TAG_MESSAGE,
                                 fst_mpi.comm, &message->request);
  if (arrival_error == 0) arrival = message;
  else free(message);
  return arrival_error == 0;
}

int fst_mpi_pass_messages(void) {
  const fst_mpi_library *mpi = fst_mpi.library;
  int moved = 0, done = 1;
  while (done && (arrival || listen_on())) {
    fst_mpi_status status;
    if (mpi->MPI_Test(&arrival->request, &done, &status) != 0) done = 1; /* what there is of it says nothing */
    if (!done) break;
    fst_mpi_message *said = arrival;
    arrival = NULL;
    heed(said);
    moved = 1;
  }
  for (fst_mpi_message **link = &outbox; *link;) {
    fst_mpi_message *message = *link;
    if (fst_mpi_take_back(&message->request, 1, 0)) {
      link = &message->next;
      continue;
    }
    *link = message->next;
    free(message);
  }
  return moved;
}

int fst_mpi_message_error(void) {
  return arrival_error;
}

int fst_mpi_sends(void) {
  return outbox != NULL;
}

void fst_mpi_stop_messages(void) {
  if (arrival && fst_mpi_take_back(&arrival->request, 1, 1) == 0) {
    free(arrival);
    arrival = NULL;
  }
}

fst_mpi_message *fst_mpi_take(fst_mpi_group *group, enum fst_mpi_message_kind kind, int from) {
  for (fst_mpi_message **link = &group->inbox; *link; link = &(*link)->next) {
    fst_mpi_message *message = *link;
    if (message->kind != kind || (from >= 0 && message->from != from)) continue;
    /* Between two ranks it may be meant for later: the sender has done one more call of all ranks. */
    if (kind == FST_MPI_PAIR && message->sequence != group->completed) continue;
    *link = message->next;
    return message;
  }
  return NULL;
}

/* ---- What is known of the ranks ---- */

int fst_mpi_know(fst_mpi_group *group, const int32_t *world) {
  const size_t size = group->size > 0 ? (size_t)group->size : 1;
  group->members = calloc(size, sizeof *group->members);
  group->departures = calloc(size, sizeof *group->departures);
  if (!group->members || !group->departures) return -1;
  for (int rank = 0; rank < group->size; rank++) {
    group->members[rank] = (fst_mpi_member){world ? world[rank] : rank, 0, UINT64_MAX, NULL, 0};
  }
  return 0;
}

void fst_mpi_forget(fst_mpi_group *group) {
  for (int rank = 0; group->members && rank < group->size; rank++) free(group->members[rank].reason);
  while (group->inbox) {
    fst_mpi_message *message = group->inbox;
    group->inbox = message->next;
    free(message);
  }
  free(group->members);
  free(group->departures);
  free(group);
}

void fst_mpi_note(fst_mpi_group *group, int rank, uint64_t completed, int blamed, const char *reason) {
  fst_mpi_member *member = &group->members[rank];
  if (member->left == UINT64_MAX) {
    member->left = completed;
    group->departures[group->departed++] = rank;
  }
  if (reason && *reason && !member->reason) {
    member->reason = strdup(reason);
    member->blamed = blamed;
  }
  if (group != &fst_mpi.everyone) {
    fst_mpi_publish(group);
    return;
  }
  for (fst_mpi_group *other = fst_mpi.groups; other; other = other->next) fst_mpi_publish(other);
}

int fst_mpi_gone(const fst_mpi_group *group, int only, int32_t *who, char *text, size_t size) {
  int gone = -1;
  for (int i = 0; i < group->departed; i++) {
    const int rank = group->departures[i];
    const fst_mpi_member *member = &group->members[rank];
    /* Between two ranks the failure of a third counts as well, not that it has left. */
    const int counts = only < 0 ? member->left <= group->completed : rank == only || member->reason;
    if (!counts) continue;
    if (gone < 0) gone = rank;
    if (!member->reason) continue; /* it may have left because of one that says why */
    gone = rank;
    break;
  }
  if (gone < 0) return 0;
  const fst_mpi_member *member = &group->members[gone];
  const char *last = fst_mpi.everyone.members[member->world].reason;
  *who = member->reason ? member->blamed : gone;
  *text = 0;
  if (member->reason) snprintf(text, size, "%s", member->reason);
  /* Who closes a group because of an error says why when its process ends. */
  else if (last) snprintf(text, size, "Rank %d failed: %.400s", gone, last);
  return 1;
}

void fst_mpi_enlist(fst_mpi_group *group) {
  group->next = fst_mpi.groups;
  fst_mpi.groups = group;
  for (fst_mpi_message **link = &orphans; *link;) {
    fst_mpi_message *message = *link;
    if (message->group != group->id) {
      link = &message->next;
      continue;
    }
    *link = message->next;
    orphan_count--;
    take(group, message);
  }
}

void fst_mpi_delist(fst_mpi_group *group) {
  fst_mpi_group **link = &fst_mpi.groups;
  while (*link && *link != group) link = &(*link)->next;
  if (*link) *link = group->next;
}
