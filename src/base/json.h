/* jansson with our messages: objects read from files field by field, each with its range. */
#ifndef VKM_BASE_JSON_H
#define VKM_BASE_JSON_H

#include <jansson.h>

#include "base/log.h"

/* Reads a file of at most 16 MiB that holds one JSON object (no key twice). *out is released with json_decref, NULL on
 * failure. ERROR_IO, ERROR_FORMAT with file and line, ERROR_MEMORY. */
enum vkmoe_status vkm_json_load(const struct vkmoe_log *log, const char *path, json_t **out);

/* Writes the object, indented, through vkm_file_write, and releases it, also on failure. NULL (an object that could not
 * be built) is ERROR_MEMORY. */
enum vkmoe_status vkm_json_save(const struct vkmoe_log *log, const char *path, json_t *object);

/* The value as text, freed by the caller; NULL: no memory, or value is NULL. In place of json_dumps, which leaves out the keys
 * that it finds no memory for (jansson 2.14, do_dump) and so returns what is not JSON. */
char *vkm_json_text(const json_t *value, size_t flags);

/* A number that vkm_json_save writes in the fewest digits that read back as this finite float. */
json_t *vkm_json_float(float value);

/* An object being read. The first failure is logged ("path: "key" must be ...") and latches in status; a field that
 * fails reads as the least value allowed, or NULL. */
struct vkm_json {
    const struct vkmoe_log *log;
    const char *path;               /* for messages */
    const json_t *object;
    enum vkmoe_status status;       /* VKMOE_OK or ERROR_FORMAT */
};

/* Required fields. */
uint64_t vkm_json_uint(struct vkm_json *in, const char *key, uint64_t min, uint64_t max); /* max <= INT64_MAX */
double vkm_json_real(struct vkm_json *in, const char *key, double min, double max);       /* integers too */
bool vkm_json_bool(struct vkm_json *in, const char *key);
const char *vkm_json_string(struct vkm_json *in, const char *key);                        /* lives as long as object */
const json_t *vkm_json_object(struct vkm_json *in, const char *key);

/* Optional: true where the key is there and not null. */
bool vkm_json_has(const struct vkm_json *in, const char *key);

/* Fails unless `fine`: `"key" must be <what>`. */
void vkm_json_require(struct vkm_json *in, bool fine, const char *key, const char *what);

/* A log that puts in->path in front of each line, for what checks values from the file. in outlives it. */
struct vkmoe_log vkm_json_log(struct vkm_json *in);

#endif
