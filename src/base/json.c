#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/number.h"

enum { MAX_FILE = 16 * 1024 * 1024 };

enum vkmoe_status vkm_json_load(const struct vkmoe_log *log, const char *path, json_t **out)
{
    char *text;
    size_t bytes;
    json_error_t error;
    *out = NULL;
    enum vkmoe_status status = vkm_file_read(log, path, MAX_FILE, &text, &bytes);
    if (status != VKMOE_OK)
        return status;
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (!root)
        return json_error_code(&error) == json_error_out_of_memory
            ? vkm_fail_memory(log)
            : vkm_fail(log, VKMOE_ERROR_FORMAT, "%s:%d: not valid JSON: %s", path, error.line, error.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return vkm_fail(log, VKMOE_ERROR_FORMAT, "%s: not a JSON object", path);
    }
    *out = root;
    return VKMOE_OK;
}

char *vkm_json_text(const json_t *value, size_t flags)
{
    const size_t length = value ? json_dumpb(value, NULL, 0, flags) : 0;
    char *text = length ? malloc(length + 1) : NULL;
    if (!text || json_dumpb(value, text, length, flags) != length) {
        free(text);
        return NULL;
    }
    text[length] = '\0';
    return text;
}

enum vkmoe_status vkm_json_save(const struct vkmoe_log *log, const char *path, json_t *object)
{
    char *text = vkm_json_text(object, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(object);
    if (!text)
        return vkm_fail_memory(log);
    size_t length = strlen(text);
    text[length] = '\n'; /* in the place of the NUL: the length is known */
    enum vkmoe_status status = vkm_file_write(log, path, text, length + 1);
    free(text);
    return status;
}

json_t *vkm_json_float(float value)
{
    char text[40];
    vkm_number_write(text, sizeof text, value);
    return json_real(vkm_number_read(text, NULL));
}

static void complain(struct vkm_json *in, const char *key, const char *what)
{
    if (in->status != VKMOE_OK)
        return;
    bool present = json_object_get(in->object, key) != NULL;
    in->status = vkm_fail(in->log, VKMOE_ERROR_FORMAT, "%s: \"%s\" %s%s", in->path, key,
                          present ? "must be " : "is missing: it must be ", what);
}

void vkm_json_require(struct vkm_json *in, bool fine, const char *key, const char *what)
{
    if (!fine)
        complain(in, key, what);
}

uint64_t vkm_json_uint(struct vkm_json *in, const char *key, uint64_t min, uint64_t max)
{
    const json_t *value = json_object_get(in->object, key);
    json_int_t number = json_is_integer(value) ? json_integer_value(value) : -1;
    if (number >= 0 && (uint64_t)number >= min && (uint64_t)number <= max)
        return (uint64_t)number;
    char what[80];
    snprintf(what, sizeof what, "an integer from %llu to %llu", (unsigned long long)min, (unsigned long long)max);
    complain(in, key, what);
    return min;
}

double vkm_json_real(struct vkm_json *in, const char *key, double min, double max)
{
    const json_t *value = json_object_get(in->object, key);
    if (json_is_number(value) && json_number_value(value) >= min && json_number_value(value) <= max)
        return json_number_value(value);
    char what[80];
    snprintf(what, sizeof what, "a number from %g to %g", min, max);
    complain(in, key, what);
    return min;
}

bool vkm_json_bool(struct vkm_json *in, const char *key)
{
    const json_t *value = json_object_get(in->object, key);
    vkm_json_require(in, json_is_boolean(value), key, "true or false");
    return json_is_true(value);
}

const char *vkm_json_string(struct vkm_json *in, const char *key)
{
    const json_t *value = json_object_get(in->object, key);
    vkm_json_require(in, json_is_string(value), key, "a string");
    return json_string_value(value);
}

const json_t *vkm_json_object(struct vkm_json *in, const char *key)
{
    const json_t *value = json_object_get(in->object, key);
    vkm_json_require(in, json_is_object(value), key, "an object");
    return json_is_object(value) ? value : NULL;
}

bool vkm_json_has(const struct vkm_json *in, const char *key)
{
    const json_t *value = json_object_get(in->object, key);
    return value && !json_is_null(value);
}

static void log_with_path(void *user, enum vkmoe_log_level level, const char *line)
{
    const struct vkm_json *in = user;
    vkm_log(in->log, level, "%s: %s", in->path, line);
}

struct vkmoe_log vkm_json_log(struct vkm_json *in)
{
    return (struct vkmoe_log){.fn = log_with_path, .user = in};
}
