/* Whole files in, whole files out: a reader never sees half of a file that was written here. */
#ifndef VKM_BASE_FILE_H
#define VKM_BASE_FILE_H

#include "base/log.h"

/* "dir/name", or a copy of name where dir is empty. The caller frees it; NULL: no memory. */
char *vkm_path_join(const char *dir, const char *name);

/* Creates a directory and those above it; one that exists is fine. ERROR_IO. */
enum vkmoe_status vkm_dir_create(const struct vkmoe_log *log, const char *path);

/* Makes what was created, renamed or removed in it last. ERROR_IO. */
enum vkmoe_status vkm_dir_sync(const struct vkmoe_log *log, const char *path);

/* Removes a directory and the files in it (none of our directories has others within); one that is not there is fine.
 * ERROR_IO, ERROR_MEMORY. */
enum vkmoe_status vkm_dir_remove(const struct vkmoe_log *log, const char *path);

/* Gives a file or directory another name beside its own, and makes that last. What `to` names must not be a directory with
 * something in it. ERROR_IO, ERROR_MEMORY. */
enum vkmoe_status vkm_file_rename(const struct vkmoe_log *log, const char *from, const char *to);

/* Opens a regular file for reading: never waits for a pipe, never opens a directory. *fd is the caller's to close, -1
 * on failure; *bytes is its size. ERROR_IO. */
enum vkmoe_status vkm_file_open(const struct vkmoe_log *log, const char *path, int *fd, uint64_t *bytes);

/* Reads a regular file of at most max_bytes. *data has a NUL behind its *bytes and is the caller's to free. ERROR_IO,
 * ERROR_FORMAT (too large), ERROR_MEMORY. */
enum vkmoe_status vkm_file_read(const struct vkmoe_log *log, const char *path, uint64_t max_bytes, char **data,
                                size_t *bytes);

/* A file being written as "<path>.tmp", which becomes path when it is complete. A zero one is no file. */
struct vkm_writer {
    const struct vkmoe_log *log;
    char *path, *temporary;
    int fd;                         /* meaningful while `open` */
    bool open;
};

/* Every function that fails leaves the writer for vkm_writer_abort, which removes the temporary. ERROR_IO,
 * ERROR_MEMORY. log outlives the writer. A ".tmp" that a killed process left behind is replaced. */
enum vkmoe_status vkm_writer_begin(const struct vkmoe_log *log, const char *path, struct vkm_writer *out);
enum vkmoe_status vkm_writer_append(struct vkm_writer *writer, const void *data, size_t bytes);
/* Brings what was appended to the disk and closes the temporary: what may still fail in commit is the renaming. */
enum vkmoe_status vkm_writer_sync(struct vkm_writer *writer);
/* Syncs if that was not done, and renames. On success the writer is zero again. */
enum vkmoe_status vkm_writer_commit(struct vkm_writer *writer);
/* Accepts a zero writer and one that was committed. */
void vkm_writer_abort(struct vkm_writer *writer);

/* All of that for data at hand. */
enum vkmoe_status vkm_file_write(const struct vkmoe_log *log, const char *path, const void *data, size_t bytes);

#endif
