/* As much of PTX as is needed to know which kernels a text declares and what parameters they take. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* A copy of the text with comments and line ends as spaces. */
static char *without_comments(const char *text) {
  size_t length = strlen(text);
  char *copy = sim_zeroed(length + 1);
  for (size_t i = 0; i < length;) {
    if (text[i] == '/' && text[i + 1] == '/') {
      while (i < length && text[i] != '\n') copy[i++] = ' ';
    } else if (text[i] == '/' && text[i + 1] == '*') {
      const char *end = strstr(text + i + 2, "*/");
      size_t stop = end ? (size_t)(end - text) + 2 : length;
      while (i < stop) copy[i++] = ' ';
    } else {
      copy[i] = isspace((unsigned char)text[i]) ? ' ' : text[i];
      i++;
    }
  }
  return copy;
}

static const char *skip_spaces(const char *text) {
  while (*text == ' ') text++;
  return text;
}

static bool is_name(char c) {
  return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '%';
}

/* What follows `.word` and its spaces at the start of the text, or NULL. */
static const char *after_directive(const char *text, const char *word) {
  size_t length = strlen(word);
  return strncmp(text, word, length) == 0 && text[length] == ' ' ? skip_spaces(text + length) : NULL;
}

/* The width of a parameter from what follows its `.param`: its type, perhaps attributes, its name. */
static char width_of(const char *text, const char *end) {
  char width = '?';
  for (; text < end && (text = memchr(text, '.', (size_t)(end - text))); text++) {
    if (strchr("busf", text[1]) && strncmp(text + 2, "64", 2) == 0) width = 'Q';
    if (strchr("busf", text[1]) && strncmp(text + 2, "32", 2) == 0) width = 'I';
  }
  return end[-1] == ']' ? '?' : width; /* an array is not a scalar */
}

/* Reads NAME and its parameters in round brackets, if there are any. */
static bool read_entry(const char *text, sim_entry *entry) {
  size_t length = 0;
  while (is_name(text[length])) length++;
  if (length == 0 || length >= sizeof entry->name) return false;
  memcpy(entry->name, text, length);
  text = skip_spaces(text + length);
  if (*text != '(') return true;
  const char *close = strchr(text, ')');
  if (!close) return false;
  size_t count = 0;
  for (text++; text < close;) {
    const char *end = memchr(text, ',', (size_t)(close - text));
    if (!end) end = close;
    const char *parameter = after_directive(skip_spaces(text), ".param");
    if (parameter) {
      if (count == SIM_PARAMETERS) return false;
      const char *last = end;
      while (last > parameter && last[-1] == ' ') last--;
      entry->widths[count++] = width_of(parameter, last);
    } else if (skip_spaces(text) != close) {
      return false;
    }
    text = end + 1;
  }
  return true;
}

static const char *read_header(const char *text, sim_ptx *ptx) {
  char *end;
  const char *value = after_directive(skip_spaces(text), ".version");
  if (!value) return NULL;
  long major = strtol(value, &end, 10);
  if (*end != '.') return NULL;
  ptx->version = (int)(major * 10 + strtol(end + 1, &end, 10));
  value = after_directive(skip_spaces(end), ".target");
  if (!value || strncmp(value, "sm_", 3) != 0) return NULL;
  ptx->target = (int)strtol(value + 3, &end, 10);
  while (*end && *end != '.') end++; /* "sm_90a", "sm_60, debug" */
  value = after_directive(end, ".address_size");
  return value && strncmp(value, "64", 2) == 0 ? value + 2 : NULL;
}

static const char *read_body(const char *text, sim_ptx *ptx) {
  size_t capacity = 0;
  int depth = 0;
  bool visible = false;
  for (; *text; text++) {
    if (*text == '{') depth++;
    if (*text == '}' && --depth < 0) return "a closing brace without an opening one";
    if (depth > 0 || *text != '.') continue;
    const char *name = after_directive(text, ".entry");
    if (name && visible) {
      ptx->entries = sim_grown(ptx->entries, ptx->entry_count, &capacity, sizeof *ptx->entries);
      sim_entry *entry = &ptx->entries[ptx->entry_count++];
      memset(entry, 0, sizeof *entry);
      if (!read_entry(name, entry)) return "an entry whose name and parameters cannot be read";
    }
    visible = after_directive(text, ".visible") != NULL;
  }
  return depth == 0 ? NULL : "an opening brace without a closing one";
}

void sim_ptx_parse(const char *text, sim_ptx *ptx) {
  memset(ptx, 0, sizeof *ptx);
  char *clean = without_comments(text);
  const char *body = read_header(clean, ptx);
  ptx->reason = body ? read_body(body, ptx) : "no .version, .target sm_NN and .address_size 64 at its start";
  free(clean);
}
