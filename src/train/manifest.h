/* checksums.xxh128: the XXH128 of each other file of a directory, in lines that `xxh128sum --check checksums.xxh128` takes.
 * Against files that storage or a transfer has changed, not against adversaries. */
#ifndef VKM_TRAIN_MANIFEST_H
#define VKM_TRAIN_MANIFEST_H

#include "base/log.h"

#define VKM_MANIFEST_FILE "checksums.xxh128"

/* 32 hexadecimal digits, high word first, as xxh128sum prints them. */
struct vkm_checksum {
    char text[33];
};

/* Of a regular file. ERROR_IO, ERROR_FORMAT (it became shorter), ERROR_MEMORY. */
enum vkmoe_status vkm_checksum_file(const struct vkmoe_log *log, const char *path, struct vkm_checksum *out);

/* Reads the files dir/names[0 .. count) and writes the manifest. ERROR_IO, ERROR_FORMAT, ERROR_MEMORY. */
enum vkmoe_status vkm_manifest_write(const struct vkmoe_log *log, const char *dir, const char *const *names, size_t count);

/* Reads the files and compares: ERROR_FORMAT names the first that is another than when it was written. A directory
 * without a manifest (another program's, or files of a checkpoint copied out of it) is fine unless required. ERROR_IO,
 * ERROR_MEMORY. */
enum vkmoe_status vkm_manifest_verify(const struct vkmoe_log *log, const char *dir, const char *const *names, size_t count,
                                      bool required);

#endif
