#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"

enum { MAX_JSON = 16 << 20, MAX_OUTPUTS = 4 };

char *file_load(const char *path, size_t max_bytes, size_t *bytes, bool *absent)
{
    struct stat info;
    char *data = NULL;
    size_t size = 0;
    if (absent)
        *absent = false;
    /* Without O_NONBLOCK a pipe with no writer would hold us up for ever. */
    const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && absent && errno == ENOENT) {
        *absent = true;
        return NULL;
    }
    if (fd < 0 || fstat(fd, &info) != 0) {
        message("%s: %s", path, strerror(errno));
        goto fail;
    }
    if (!S_ISREG(info.st_mode)) {
        message("%s: is not a file", path);
        goto fail;
    }
    if ((uint64_t)info.st_size > max_bytes) {
        char limit[16];
        message("%s: is larger than %s", path, format_bytes(limit, max_bytes));
        goto fail;
    }
    data = malloc((size_t)info.st_size + 1);
    if (!data) {
        message("out of memory");
        goto fail;
    }
    /* A file that grows meanwhile is read as far as it went when it was opened. */
    while (size < (size_t)info.st_size) {
        const ssize_t got = read(fd, data + size, (size_t)info.st_size - size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            message("%s: %s", path, strerror(errno));
            goto fail;
        }
        if (got == 0)
            break;
        size += (size_t)got;
    }
    close(fd);
    data[size] = '\0';
    *bytes = size;
    return data;
fail:
    if (fd >= 0)
        close(fd);
    free(data);
    return NULL;
}

char *checkpoint_file(const char *dir, const char *name)
{
    const struct vkmoe_log silent = { 0 };
    char *checkpoint, *path = NULL;
    if (vkmoe_checkpoint_find(silent, dir, &checkpoint) == VKMOE_OK)
        path = path_in(checkpoint, name);
    vkmoe_text_free(checkpoint);
    return path;
}

json_t *json_file_load(const char *path, bool *absent)
{
    json_error_t error;
    size_t bytes;
    char *text = file_load(path, MAX_JSON, &bytes, absent);
    if (!text)
        return NULL;
    json_t *object = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (!object)
        message("%s:%d: %s", path, error.line, error.text);
    else if (!json_is_object(object)) {
        message("%s: is not a JSON object", path);
        json_decref(object);
        object = NULL;
    }
    return object;
}

static bool make_directories(const char *dir)
{
    char *path = strdup(dir);
    if (!path) {
        message("out of memory");
        return false;
    }
    for (char *at = path; *at;) {
        at += strspn(at, "/");
        at += strcspn(at, "/");
        const char kept = *at;
        *at = '\0';
        if (mkdir(path, 0777) != 0 && errno != EEXIST) {
            message("%s: %s", path, strerror(errno));
            free(path);
            return false;
        }
        *at = kept;
    }
    free(path);
    return true;
}

static bool write_parts(const char *path, const struct output *output)
{
    FILE *file = fopen(path, "wbe");
    if (!file)
        return false;
    bool fine = true;
    for (size_t i = 0; i < sizeof output->parts / sizeof output->parts[0]; i++)
        fine = fine && (output->parts[i].bytes == 0 ||
                        fwrite(output->parts[i].data, output->parts[i].bytes, 1, file) == 1);
    fine = fine && fflush(file) == 0 && fsync(fileno(file)) == 0;
    const int error = errno;
    if (fclose(file) != 0)
        return false;
    errno = error;
    return fine;
}

static char *with_suffix(const char *path, const char *suffix)
{
    const size_t size = strlen(path) + strlen(suffix) + 1;
    char *longer = malloc(size);
    if (longer)
        snprintf(longer, size, "%s%s", path, suffix);
    else
        message("out of memory");
    return longer;
}

bool outputs_write(const char *dir, const struct output *outputs, size_t count)
{
    char *paths[MAX_OUTPUTS] = { 0 }, *temporaries[MAX_OUTPUTS] = { 0 };
    size_t renamed = 0;
    bool fine = count <= MAX_OUTPUTS && make_directories(dir);
    for (size_t i = 0; fine && i < count; i++) {
        paths[i] = path_in(dir, outputs[i].name);
        temporaries[i] = paths[i] ? with_suffix(paths[i], ".tmp") : NULL;
        fine = temporaries[i];
        if (fine && !write_parts(temporaries[i], &outputs[i])) {
            message("%s: %s", temporaries[i], strerror(errno));
            fine = false;
        }
    }
    for (; fine && renamed < count; renamed++) {
        fine = rename(temporaries[renamed], paths[renamed]) == 0;
        if (!fine) {
            message("%s: %s", paths[renamed], strerror(errno));
            break;
        }
    }
    for (size_t i = 0; i < MAX_OUTPUTS; i++) {
        if (temporaries[i] && i >= renamed)
            remove(temporaries[i]);
        free(temporaries[i]);
        free(paths[i]);
    }
    return fine;
}

/* Cuts a path into its directory, which the caller frees, and the name in it. NULL after a message. */
static char *directory_of(const char *path, const char **name)
{
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    char *dir = slash ? strdup(path) : strdup(".");
    if (!dir)
        message("out of memory");
    else if (slash)
        dir[slash > path ? slash - path : 1] = '\0';
    return dir;
}

bool output_check(const char *path)
{
    struct stat info;
    const char *name;
    char *dir = directory_of(path, &name);
    if (!dir)
        return false;
    bool fine = false;
    if (!*name)
        message("'%s' is not the name of a file", path);
    else if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        message("%s: is a directory", path);
    else if (make_directories(dir)) {
        fine = access(dir, W_OK) == 0;
        if (!fine)
            message("%s: %s", dir, strerror(errno));
    }
    free(dir);
    return fine;
}

bool output_write(const char *path, struct output output)
{
    char *dir = directory_of(path, &output.name);
    const bool fine = dir && outputs_write(dir, &output, 1);
    free(dir);
    return fine;
}
