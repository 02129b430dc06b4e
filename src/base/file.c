#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *vkm_path_join(const char *dir, const char *name)
{
    size_t head = strlen(dir), tail = strlen(name);
    char *path = malloc(head + tail + 2);
    if (!path)
        return NULL;
    memcpy(path, dir, head);
    if (head > 0 && dir[head - 1] != '/')
        path[head++] = '/';
    memcpy(path + head, name, tail + 1);
    return path;
}

static bool is_directory(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

enum vkmoe_status vkm_dir_create(const struct vkmoe_log *log, const char *path)
{
    char *part = vkm_path_join("", path);
    if (!part)
        return vkm_fail_memory(log);
    enum vkmoe_status status = VKMOE_OK;
    for (char *end = part; status == VKMOE_OK && *end; ) {
        end += strspn(end, "/");
        end += strcspn(end, "/");
        char saved = *end;
        *end = '\0';
        if (mkdir(part, 0777) != 0) {
            int error = errno;
            if (!is_directory(part))
                status = vkm_fail(log, VKMOE_ERROR_IO, "cannot create directory %s: %s", part,
                                  error == EEXIST ? "a file of that name is there; choose another" : strerror(error));
        }
        *end = saved;
    }
    if (status == VKMOE_OK && !*path)
        status = vkm_fail(log, VKMOE_ERROR_IO, "cannot create a directory without a name");
    free(part);
    return status;
}

/* File systems that cannot sync a directory do so by themselves. An errno. */
static int sync_dir(const char *path)
{
    int error = 0, fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == EACCES ? 0 : errno;
    if (fsync(fd) != 0 && errno != EINVAL)
        error = errno;
    close(fd);
    return error;
}

enum vkmoe_status vkm_dir_sync(const struct vkmoe_log *log, const char *path)
{
    const int error = sync_dir(path);
    return error ? vkm_fail(log, VKMOE_ERROR_IO, "cannot write %s: %s", path, strerror(error)) : VKMOE_OK;
}

/* The same of the directory that holds path. */
static int sync_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    char *dir = malloc(length + 2);
    if (!dir)
        return ENOMEM;
    memcpy(dir, slash && length == 0 ? "/" : ".", 2);
    if (length > 0) {
        memcpy(dir, path, length);
        dir[length] = '\0';
    }
    const int error = sync_dir(dir);
    free(dir);
    return error;
}

enum vkmoe_status vkm_file_rename(const struct vkmoe_log *log, const char *from, const char *to)
{
    int error = rename(from, to) == 0 ? sync_parent(to) : errno;
    return error ? vkm_fail(log, VKMOE_ERROR_IO, "cannot name %s %s: %s", from, to, strerror(error)) : VKMOE_OK;
}

enum vkmoe_status vkm_dir_remove(const struct vkmoe_log *log, const char *path)
{
    enum vkmoe_status status = VKMOE_OK;
    DIR *stream = opendir(path);
    if (!stream)
        return errno == ENOENT ? VKMOE_OK : vkm_fail(log, VKMOE_ERROR_IO, "cannot remove %s: %s", path, strerror(errno));
    for (const struct dirent *item; !status && (item = readdir(stream));) {
        if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0)
            continue;
        char *file = vkm_path_join(path, item->d_name);
        if (!file)
            status = vkm_fail_memory(log);
        else if (unlink(file) != 0 && errno != ENOENT)
            status = vkm_fail(log, VKMOE_ERROR_IO, "cannot remove %s: %s", file, strerror(errno));
        free(file);
    }
    closedir(stream);
    if (!status && rmdir(path) != 0 && errno != ENOENT)
        status = vkm_fail(log, VKMOE_ERROR_IO, "cannot remove %s: %s", path, strerror(errno));
    return status;
}

enum vkmoe_status vkm_file_open(const struct vkmoe_log *log, const char *path, int *fd, uint64_t *bytes)
{
    struct stat info;
    *bytes = 0;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (*fd < 0)
        return vkm_fail(log, VKMOE_ERROR_IO, "cannot open %s: %s", path, strerror(errno));
    enum vkmoe_status status = VKMOE_OK;
    if (fstat(*fd, &info) != 0)
        status = vkm_fail(log, VKMOE_ERROR_IO, "cannot read %s: %s", path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = vkm_fail(log, VKMOE_ERROR_IO, "cannot read %s: it is %s; give a regular file", path,
                          S_ISDIR(info.st_mode) ? "a directory" : "a pipe, socket or device");
    else
        *bytes = (uint64_t)info.st_size;
    if (status != VKMOE_OK) {
        close(*fd);
        *fd = -1;
    }
    return status;
}

enum vkmoe_status vkm_file_read(const struct vkmoe_log *log, const char *path, uint64_t max_bytes, char **data,
                                size_t *bytes)
{
    int fd;
    uint64_t size;
    size_t done = 0;
    *data = NULL;
    *bytes = 0;
    enum vkmoe_status status = vkm_file_open(log, path, &fd, &size);
    if (status != VKMOE_OK)
        return status;
    char *buffer = NULL;
    if (size > max_bytes || size >= SIZE_MAX) {
        status = vkm_fail(log, VKMOE_ERROR_FORMAT, "%s has %llu bytes; such a file has at most %llu", path,
                          (unsigned long long)size, (unsigned long long)max_bytes);
        goto fail;
    }
    buffer = malloc((size_t)size + 1);
    if (!buffer) {
        status = vkm_fail_memory(log);
        goto fail;
    }
    while (done < size) {
        ssize_t got = read(fd, buffer + done, (size_t)size - done);
        if (got == 0)
            break;
        if (got < 0 && errno != EINTR) {
            status = vkm_fail(log, VKMOE_ERROR_IO, "cannot read %s: %s", path, strerror(errno));
            goto fail;
        }
        if (got > 0)
            done += (size_t)got;
    }
    close(fd);
    buffer[done] = '\0';
    *data = buffer;
    *bytes = done;
    return VKMOE_OK;
fail:
    free(buffer);
    close(fd);
    return status;
}

static enum vkmoe_status write_failure(const struct vkm_writer *writer, int error)
{
    return vkm_fail(writer->log, VKMOE_ERROR_IO, "cannot write %s: %s%s", writer->path, strerror(error),
                    error == ENOSPC || error == EDQUOT ? "; free some space, then resume the run" : "");
}

enum vkmoe_status vkm_writer_begin(const struct vkmoe_log *log, const char *path, struct vkm_writer *out)
{
    size_t length = strlen(path);
    *out = (struct vkm_writer){.log = log, .path = malloc(length + 1), .temporary = malloc(length + sizeof ".tmp")};
    if (!out->path || !out->temporary) {
        free(out->temporary); /* it has no name yet, so there is nothing to unlink */
        out->temporary = NULL;
        return vkm_fail_memory(log);
    }
    memcpy(out->path, path, length + 1);
    memcpy(out->temporary, path, length);
    memcpy(out->temporary + length, ".tmp", sizeof ".tmp");
    if (unlink(out->temporary) == 0 || errno == ENOENT)
        out->fd = open(out->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    else
        out->fd = -1;
    if (out->fd < 0) {
        int error = errno;
        free(out->temporary); /* not ours to unlink */
        out->temporary = NULL;
        return write_failure(out, error);
    }
    out->open = true;
    return VKMOE_OK;
}

enum vkmoe_status vkm_writer_append(struct vkm_writer *writer, const void *data, size_t bytes)
{
    const char *from = data;
    while (bytes > 0) {
        ssize_t put = write(writer->fd, from, bytes);
        if (put < 0 && errno != EINTR)
            return write_failure(writer, errno);
        if (put > 0) {
            from += put;
            bytes -= (size_t)put;
        }
    }
    return VKMOE_OK;
}

enum vkmoe_status vkm_writer_sync(struct vkm_writer *writer)
{
    struct stat mine, named;
    if (!writer->open)
        return VKMOE_OK;
    int error = 0;
    if (fsync(writer->fd) != 0 && errno != EINVAL)
        error = errno;
    /* Two processes that save to one place: only one of them owns the temporary's name. */
    bool owned = fstat(writer->fd, &mine) == 0 && lstat(writer->temporary, &named) == 0 && mine.st_ino == named.st_ino;
    writer->open = false;
    if (close(writer->fd) != 0 && !error)
        error = errno;
    if (error)
        return write_failure(writer, error);
    if (!owned) {
        free(writer->temporary);
        writer->temporary = NULL;
        return vkm_fail(writer->log, VKMOE_ERROR_IO,
                        "cannot write %s: another process writes it too; let only one use the directory",
                        writer->path);
    }
    return VKMOE_OK;
}

enum vkmoe_status vkm_writer_commit(struct vkm_writer *writer)
{
    enum vkmoe_status status = vkm_writer_sync(writer);
    if (status != VKMOE_OK)
        return status;
    if (rename(writer->temporary, writer->path) != 0)
        return write_failure(writer, errno);
    free(writer->temporary);
    writer->temporary = NULL;
    int error = sync_parent(writer->path);
    if (error)
        return write_failure(writer, error);
    vkm_writer_abort(writer);
    return VKMOE_OK;
}

void vkm_writer_abort(struct vkm_writer *writer)
{
    if (writer->open)
        close(writer->fd);
    if (writer->temporary)
        unlink(writer->temporary);
    free(writer->temporary);
    free(writer->path);
    *writer = (struct vkm_writer){0};
}

enum vkmoe_status vkm_file_write(const struct vkmoe_log *log, const char *path, const void *data, size_t bytes)
{
    struct vkm_writer writer;
    enum vkmoe_status status = vkm_writer_begin(log, path, &writer);
    if (status == VKMOE_OK)
        status = vkm_writer_append(&writer, data, bytes);
    if (status == VKMOE_OK)
        status = vkm_writer_commit(&writer);
    vkm_writer_abort(&writer);
    return status;
}
