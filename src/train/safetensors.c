#include "train/safetensors.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"

enum { MAX_HEADER = 100 * 1000 * 1000 }; /* the format's own limit */

/* ---- writing ------------------------------------------------------------------------------------------------- */

struct vkm_safetensors_writer {
    const struct vkmoe_log *log;
    struct vkm_writer file;
    json_t *header, *metadata;      /* metadata belongs to header; header is NULL once it was written */
    uint64_t declared, appended;    /* elements */
};

enum vkmoe_status vkm_safetensors_create(const struct vkmoe_log *log, const char *path,
                                         struct vkm_safetensors_writer **out)
{
    *out = NULL;
    struct vkm_safetensors_writer *w = calloc(1, sizeof *w);
    if (!w)
        return vkm_fail_memory(log);
    w->log = log;
    w->header = json_object();
    w->metadata = json_object();
    enum vkmoe_status status = json_object_set_new(w->header, "__metadata__", w->metadata) == 0
        ? vkm_writer_begin(log, path, &w->file)
        : vkm_fail_memory(log);
    if (status == VKMOE_OK)
        status = vkm_safetensors_note(w, "format", "pt");
    if (status != VKMOE_OK) {
        vkm_safetensors_destroy(w);
        return status;
    }
    *out = w;
    return VKMOE_OK;
}

enum vkmoe_status vkm_safetensors_note(struct vkm_safetensors_writer *w, const char *key, const char *value)
{
    return json_object_set_new(w->metadata, key, json_string(value)) == 0 ? VKMOE_OK : vkm_fail_memory(w->log);
}

enum vkmoe_status vkm_safetensors_declare(struct vkm_safetensors_writer *w, const char *name, const uint64_t *dims,
                                          uint32_t rank)
{
    uint64_t count = 1;
    json_t *shape = json_array();
    int failed = !shape;
    for (uint32_t i = 0; i < rank; i++) {
        count *= dims[i];
        failed |= json_array_append_new(shape, json_integer((json_int_t)dims[i]));
    }
    uint64_t begin = w->declared * sizeof(float), end = begin + count * sizeof(float);
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", shape, "data_offsets", (json_int_t)begin,
                              (json_int_t)end);
    if (failed | json_object_set_new(w->header, name, entry))
        return vkm_fail_memory(w->log);
    w->declared += count;
    return VKMOE_OK;
}

static enum vkmoe_status write_header(struct vkm_safetensors_writer *w)
{
    char *text = vkm_json_text(w->header, JSON_COMPACT);
    if (!text)
        return vkm_fail_memory(w->log);
    enum vkmoe_status status;
    unsigned char prefix[8];
    size_t length = strlen(text), padding = (8 - length % 8) % 8;
    for (int i = 0; i < 8; i++)
        prefix[i] = (unsigned char)((uint64_t)(length + padding) >> 8 * i);
    if (length + padding > MAX_HEADER)
        status = vkm_fail(w->log, VKMOE_ERROR_ARGUMENT,
                          "cannot write %s: the list of tensors exceeds the format's 100 MB; use fewer experts",
                          w->file.path);
    else
        status = vkm_writer_append(&w->file, prefix, sizeof prefix);
    if (status == VKMOE_OK)
        status = vkm_writer_append(&w->file, text, length);
    if (status == VKMOE_OK)
        status = vkm_writer_append(&w->file, "       ", padding);
    free(text);
    json_decref(w->header);
    w->header = NULL;
    return status;
}

enum vkmoe_status vkm_safetensors_append(struct vkm_safetensors_writer *w, const float *values, uint64_t count)
{
    if (w->header) {
        enum vkmoe_status status = write_header(w);
        if (status != VKMOE_OK)
            return status;
    }
    w->appended += count;
    return vkm_writer_append(&w->file, values, (size_t)count * sizeof *values);
}

enum vkmoe_status vkm_safetensors_sync(struct vkm_safetensors_writer *w)
{
    if (w->header) {
        enum vkmoe_status status = write_header(w);
        if (status != VKMOE_OK)
            return status;
    }
    if (w->appended != w->declared)
        return vkm_fail(w->log, VKMOE_ERROR_ARGUMENT, "cannot write %s: %" PRIu64 " elements instead of %" PRIu64,
                        w->file.path, w->appended, w->declared);
    return vkm_writer_sync(&w->file);
}

enum vkmoe_status vkm_safetensors_commit(struct vkm_safetensors_writer *w)
{
    enum vkmoe_status status = vkm_safetensors_sync(w);
    return status == VKMOE_OK ? vkm_writer_commit(&w->file) : status;
}

void vkm_safetensors_destroy(struct vkm_safetensors_writer *w)
{
    if (!w)
        return;
    vkm_writer_abort(&w->file);
    json_decref(w->header);
    free(w);
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

struct vkm_safetensors {
    const struct vkmoe_log *log;
    char *path;
    int fd;
    uint64_t data, data_bytes;      /* where the tensors' data begins in the file, and its length */
    json_t *header;                 /* owns the names */
    struct vkm_tensor *tensors;     /* by name, so that one can be looked up */
    size_t count;
};

static enum vkmoe_status malformed(const struct vkm_safetensors *f, const char *fmt, ...) VKM_PRINTF(2, 3);

static enum vkmoe_status malformed(const struct vkm_safetensors *f, const char *fmt, ...)
{
    char cause[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(cause, sizeof cause, fmt, args);
    va_end(args);
    return vkm_fail(f->log, VKMOE_ERROR_FORMAT, "%s: %s; it is damaged or not a safetensors file", f->path, cause);
}

static enum vkmoe_status read_at(const struct vkm_safetensors *f, uint64_t offset, void *to, uint64_t bytes)
{
    char *at = to;
    while (bytes > 0) {
        ssize_t got = pread(f->fd, at, (size_t)bytes, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return vkm_fail(f->log, VKMOE_ERROR_IO, "cannot read %s: %s", f->path, strerror(errno));
        if (got == 0)
            return malformed(f, "truncated while it was read");
        at += got;
        offset += (uint64_t)got;
        bytes -= (uint64_t)got;
    }
    return VKMOE_OK;
}

static uint64_t dtype_bytes(const char *dtype)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } table[] = {
        {"BOOL", 1}, {"U8", 1}, {"I8", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"U16", 2}, {"I16", 2}, {"F16", 2},
        {"BF16", 2}, {"U32", 4}, {"I32", 4}, {"F32", 4}, {"U64", 8}, {"I64", 8}, {"F64", 8},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strcmp(dtype, table[i].name) == 0)
            return table[i].bytes;
    }
    return 0;
}

/* A non-negative integer. */
static bool size_value(const json_t *value, uint64_t *out)
{
    json_int_t number = json_integer_value(value);
    *out = (uint64_t)number;
    return json_is_integer(value) && number >= 0;
}

static enum vkmoe_status parse_tensor(const struct vkm_safetensors *f, const char *name, const json_t *entry,
                                      struct vkm_tensor *out)
{
    const json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    uint64_t end, element;
    *out = (struct vkm_tensor){.name = name, .dtype = json_string_value(json_object_get(entry, "dtype")), .count = 1};
    if (!out->dtype || !json_is_array(shape) || json_array_size(offsets) != 2)
        return malformed(f, "tensor \"%.60s\" lacks a dtype, shape or data_offsets", name);
    element = dtype_bytes(out->dtype);
    if (element == 0)
        return malformed(f, "tensor \"%.60s\" has the unknown dtype \"%.20s\"", name, out->dtype);
    if (json_array_size(shape) > VKM_SAFETENSORS_RANK)
        return malformed(f, "tensor \"%.60s\" has %zu dimensions", name, json_array_size(shape));
    out->rank = (uint32_t)json_array_size(shape);
    for (uint32_t i = 0; i < out->rank; i++) {
        if (!size_value(json_array_get(shape, i), &out->dims[i]))
            return malformed(f, "tensor \"%.60s\" has a dimension that is not a size", name);
        if (out->dims[i] > 0 && out->count > UINT64_MAX / element / out->dims[i])
            return malformed(f, "the shape of tensor \"%.60s\" overflows", name);
        out->count *= out->dims[i];
    }
    if (!size_value(json_array_get(offsets, 0), &out->begin) || !size_value(json_array_get(offsets, 1), &end) ||
        end < out->begin || end > f->data_bytes)
        return malformed(f, "tensor \"%.60s\" lies outside the file's data", name);
    out->bytes = end - out->begin;
    if (out->bytes != out->count * element)
        return malformed(f, "tensor \"%.60s\" has %" PRIu64 " bytes where its shape needs %" PRIu64, name, out->bytes,
                         out->count * element);
    return VKMOE_OK;
}

static int by_place(const void *left, const void *right)
{
    const struct vkm_tensor *a = left, *b = right;
    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    return (a->bytes > b->bytes) - (a->bytes < b->bytes); /* an empty tensor before the one that begins there */
}

static int by_name(const void *left, const void *right)
{
    const struct vkm_tensor *a = left, *b = right;
    return strcmp(a->name, b->name);
}

static enum vkmoe_status parse_header(struct vkm_safetensors *f)
{
    const char *name;
    json_t *entry, *metadata = json_object_get(f->header, "__metadata__");
    if (metadata && !json_is_object(metadata))
        return malformed(f, "\"__metadata__\" is not an object");
    f->tensors = calloc(json_object_size(f->header) + 1, sizeof *f->tensors);
    if (!f->tensors)
        return vkm_fail_memory(f->log);
    json_object_foreach(f->header, name, entry) {
        if (entry == metadata)
            continue;
        enum vkmoe_status status = parse_tensor(f, name, entry, &f->tensors[f->count++]);
        if (status != VKMOE_OK)
            return status;
    }
    qsort(f->tensors, f->count, sizeof *f->tensors, by_place);
    uint64_t end = 0;
    for (size_t i = 0; i < f->count; end = f->tensors[i].begin + f->tensors[i].bytes, i++) {
        if (f->tensors[i].begin != end)
            return malformed(f, "tensor \"%.60s\" begins at %" PRIu64 " where the one before ends at %" PRIu64,
                             f->tensors[i].name, f->tensors[i].begin, end);
    }
    if (end != f->data_bytes)
        return malformed(f, "it has %" PRIu64 " bytes of data where the tensors need %" PRIu64, f->data_bytes, end);
    qsort(f->tensors, f->count, sizeof *f->tensors, by_name);
    return VKMOE_OK;
}

static enum vkmoe_status read_header(struct vkm_safetensors *f, uint64_t file_bytes)
{
    unsigned char prefix[8];
    uint64_t length = 0;
    json_error_t error;
    if (file_bytes < sizeof prefix)
        return malformed(f, "truncated: %" PRIu64 " bytes", file_bytes);
    enum vkmoe_status status = read_at(f, 0, prefix, sizeof prefix);
    if (status != VKMOE_OK)
        return status;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | prefix[i];
    if (length > MAX_HEADER)
        return malformed(f, "its header would have %" PRIu64 " bytes", length);
    if (length > file_bytes - sizeof prefix)
        return malformed(f, "truncated: a header of %" PRIu64 " bytes in a file of %" PRIu64, length, file_bytes);
    char *text = malloc((size_t)length + 1);
    if (!text)
        return vkm_fail_memory(f->log);
    status = read_at(f, sizeof prefix, text, length);
    if (status == VKMOE_OK) {
        f->header = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &error);
        if (!f->header)
            status = malformed(f, "the header is not valid JSON (%s)", error.text);
        else if (!json_is_object(f->header))
            status = malformed(f, "the header is not a JSON object");
    }
    free(text);
    f->data = sizeof prefix + length;
    f->data_bytes = file_bytes - f->data;
    return status == VKMOE_OK ? parse_header(f) : status;
}

enum vkmoe_status vkm_safetensors_open(const struct vkmoe_log *log, const char *path, struct vkm_safetensors **out)
{
    uint64_t bytes;
    *out = NULL;
    struct vkm_safetensors *f = calloc(1, sizeof *f);
    if (!f)
        return vkm_fail_memory(log);
    f->log = log;
    f->path = vkm_path_join("", path);
    f->fd = -1;
    enum vkmoe_status status = f->path ? vkm_file_open(log, path, &f->fd, &bytes) : vkm_fail_memory(log);
    if (status == VKMOE_OK)
        status = read_header(f, bytes);
    if (status != VKMOE_OK) {
        vkm_safetensors_close(f);
        return status;
    }
    *out = f;
    return VKMOE_OK;
}

void vkm_safetensors_close(struct vkm_safetensors *f)
{
    if (!f)
        return;
    if (f->fd >= 0)
        close(f->fd);
    json_decref(f->header);
    free(f->tensors);
    free(f->path);
    free(f);
}

const struct vkm_tensor *vkm_safetensors_find(const struct vkm_safetensors *f, const char *name)
{
    const struct vkm_tensor key = {.name = name};
    return bsearch(&key, f->tensors, f->count, sizeof key, by_name);
}

const char *vkm_safetensors_metadata(const struct vkm_safetensors *f, const char *key)
{
    return json_string_value(json_object_get(json_object_get(f->header, "__metadata__"), key));
}

const struct vkm_tensor *vkm_safetensors_at(const struct vkm_safetensors *f, size_t i)
{
    return i < f->count ? &f->tensors[i] : NULL;
}

const json_t *vkm_safetensors_notes(const struct vkm_safetensors *f)
{
    return json_object_get(f->header, "__metadata__");
}

static void shape_text(char *text, size_t room, const uint64_t *dims, uint32_t rank)
{
    size_t at = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < rank && at < room; i++)
        at += (size_t)snprintf(text + at, room - at, i ? ", %" PRIu64 : "%" PRIu64, dims[i]);
}

enum vkmoe_status vkm_safetensors_expect(const struct vkm_safetensors *f, const char *name, const uint64_t *dims,
                                         uint32_t rank, const struct vkm_tensor **out)
{
    const struct vkm_tensor *t = vkm_safetensors_find(f, name);
    *out = t;
    if (!t)
        return vkm_fail(f->log, VKMOE_ERROR_FORMAT, "%s: tensor \"%s\" is missing; the file is not of this model",
                        f->path, name);
    bool same = t->rank == rank && strcmp(t->dtype, "F32") == 0;
    for (uint32_t i = 0; i < rank && same; i++)
        same = t->dims[i] == dims[i];
    if (same)
        return VKMOE_OK;
    char is[200], wanted[200];
    shape_text(is, sizeof is, t->dims, t->rank);
    shape_text(wanted, sizeof wanted, dims, rank);
    return vkm_fail(f->log, VKMOE_ERROR_FORMAT, "%s: tensor \"%s\" is %s [%s] where the model's is F32 [%s]", f->path,
                    name, t->dtype, is, wanted);
}

enum vkmoe_status vkm_safetensors_read(const struct vkm_safetensors *f, const struct vkm_tensor *tensor, uint64_t first,
                                       uint64_t count, float *values)
{
    if (strcmp(tensor->dtype, "F32") != 0 || first > tensor->count || count > tensor->count - first)
        return vkm_fail(f->log, VKMOE_ERROR_ARGUMENT, "%s: no such f32 elements in tensor \"%s\"", f->path,
                        tensor->name);
    return read_at(f, f->data + tensor->begin + first * sizeof *values, values, count * sizeof *values);
}
