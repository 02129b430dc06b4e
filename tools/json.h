/* What the subcommands need of JSON beyond jansson. */
#ifndef VKMOE_TOOLS_JSON_H
#define VKMOE_TOOLS_JSON_H

#include <jansson.h>
#include <stdbool.h>

/* How objects are written: fifteen digits bring back what a few digits meant. */
#define JSON_FORMAT (JSON_INDENT(2) | JSON_REAL_PRECISION(15))

/* A real, or null where value is not finite. */
json_t *json_number(double value);

/* A string; where text is not UTF-8, as the name of a file may be, with '?' for what is not ASCII. NULL: no memory. */
json_t *json_text(const char *text);

/* A member's value, or NAN where it is not there or null. */
double json_member(const json_t *object, const char *key);

/* For the inside of a page: with every '<' escaped, nothing in it can end the element it stands in. The caller frees it.
 * NULL: root is NULL, or no memory. */
char *json_page_text(const json_t *root);

/* Prints root to stdout. A write that fails is for main to see. false after a message: root is NULL, or no memory. */
bool json_print(const json_t *root);

/* Writes root into dir whole or not at all. false after a message. root may be NULL: no memory was left to make it. */
bool json_save(const char *dir, const char *name, const json_t *root);
/* The same by the file's path. */
bool json_save_as(const char *path, const json_t *root);

#endif
