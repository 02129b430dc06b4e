/* Files that tools read and write whole. */
#ifndef VKMOE_TOOLS_FILES_H
#define VKMOE_TOOLS_FILES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* A regular file of at most max_bytes, with a NUL behind it; the caller frees it. NULL after one message, or without one
 * where absent is given and there is no such file: then *absent is true. */
char *file_load(const char *path, size_t max_bytes, size_t *bytes, bool *absent);

/* The same for a file that holds one JSON object; the caller drops the reference. */
json_t *json_file_load(const char *path, bool *absent);

/* Path of a file of dir's newest checkpoint, or of dir itself where that is one; the caller frees it. NULL, without a message:
 * there is no checkpoint. */
char *checkpoint_file(const char *dir, const char *name);

struct output {
    const char *name;          /* of the file, in the directory */
    struct {
        const void *data;
        size_t bytes;
    } parts[3];                /* one behind the other */
};

/* Writes all of the files into dir, which is created with those above it where it is not there. Each is written beside
 * its name, and none is renamed before all are complete; false after one message, with the old files as they were. */
bool outputs_write(const char *dir, const struct output *outputs, size_t count);

/* Writes one file likewise; output.name is left out. */
bool output_write(const char *path, struct output output);
/* Whether output_write would find a place for it, to be known before the work is done; false after one message. */
bool output_check(const char *path);

#endif
