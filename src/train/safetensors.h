/* Files of named tensors: 8 bytes little-endian length of a JSON header, the header, the tensors' data. */
#ifndef VKM_TRAIN_SAFETENSORS_H
#define VKM_TRAIN_SAFETENSORS_H

#include <jansson.h>

#include "base/log.h"

enum { VKM_SAFETENSORS_RANK = 8 };  /* most dimensions of a tensor that is read */

/* ---- writing: declare everything, then append the data in that order ----------------------------------------- */

struct vkm_safetensors_writer;

/* Writes path through vkm_writer. log outlives the writer. ERROR_IO, ERROR_MEMORY. */
enum vkmoe_status vkm_safetensors_create(const struct vkmoe_log *log, const char *path,
                                         struct vkm_safetensors_writer **out);

/* Adds to "__metadata__", which always has "format": "pt". */
enum vkmoe_status vkm_safetensors_note(struct vkm_safetensors_writer *writer, const char *key, const char *value);

/* An f32 tensor of dims[rank], row-major. The name is not in the file yet. */
enum vkmoe_status vkm_safetensors_declare(struct vkm_safetensors_writer *writer, const char *name, const uint64_t *dims,
                                          uint32_t rank);

/* The next `count` elements. Nothing is declared after the first. */
enum vkmoe_status vkm_safetensors_append(struct vkm_safetensors_writer *writer, const float *values, uint64_t count);

/* Brings everything to the disk under the temporary name: exactly the declared elements were appended. */
enum vkmoe_status vkm_safetensors_sync(struct vkm_safetensors_writer *writer);
/* Syncs if that was not done, and gives the file its name. */
enum vkmoe_status vkm_safetensors_commit(struct vkm_safetensors_writer *writer);
/* Removes the temporary unless it was committed. Accepts NULL. */
void vkm_safetensors_destroy(struct vkm_safetensors_writer *writer);

/* ---- reading ------------------------------------------------------------------------------------------------- */

struct vkm_tensor {
    const char *name;
    const char *dtype;              /* "F32", "BF16", ... */
    uint32_t rank;
    uint64_t dims[VKM_SAFETENSORS_RANK];
    uint64_t begin, bytes;          /* in the file's data */
    uint64_t count;                 /* elements */
};

struct vkm_safetensors;

/* Opens a file and checks all of its header: afterwards every tensor lies within the file and none overlaps another.
 * log outlives the file. ERROR_IO, ERROR_FORMAT, ERROR_MEMORY. */
enum vkmoe_status vkm_safetensors_open(const struct vkmoe_log *log, const char *path, struct vkm_safetensors **out);
void vkm_safetensors_close(struct vkm_safetensors *file);

/* NULL where there is none. */
const struct vkm_tensor *vkm_safetensors_find(const struct vkm_safetensors *file, const char *name);
const char *vkm_safetensors_metadata(const struct vkm_safetensors *file, const char *key);

/* Number i of all, in the order of their names; NULL past the last. */
const struct vkm_tensor *vkm_safetensors_at(const struct vkm_safetensors *file, size_t i);
/* "__metadata__", alive as long as the file; NULL where there is none. */
const json_t *vkm_safetensors_notes(const struct vkm_safetensors *file);

/* The tensor `name`, which must be f32 of dims[rank]: ERROR_FORMAT if it is missing or another. */
enum vkmoe_status vkm_safetensors_expect(const struct vkm_safetensors *file, const char *name, const uint64_t *dims,
                                         uint32_t rank, const struct vkm_tensor **out);

/* Elements [first, first + count) of an f32 tensor of this file. */
enum vkmoe_status vkm_safetensors_read(const struct vkm_safetensors *file, const struct vkm_tensor *tensor,
                                       uint64_t first, uint64_t count, float *values);

#endif
