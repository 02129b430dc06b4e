/* A directory of the test's own. */
#ifndef SCRATCH_DIR_H
#define SCRATCH_DIR_H

#include "base/file.h"

#include <criterion/criterion.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch[64];

static inline void scratch_begin(void)
{
    strcpy(scratch, "/tmp/vkmoe-test-XXXXXX");
    cr_assert(mkdtemp(scratch));
}

static inline void remove_all(const char *path)
{
    DIR *dir = remove(path) == 0 ? NULL : opendir(path);
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char *child = vkm_path_join(path, entry->d_name);
        cr_assert(child);
        remove_all(child);
        free(child);
    }
    closedir(dir);
    remove(path);
}

static inline void scratch_end(void)
{
    remove_all(scratch);
}

/* A path in the directory; one of a few buffers that are used in turn. */
static inline const char *at(const char *name)
{
    static char paths[8][256];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, 256, "%s/%s", scratch, name);
    return path;
}

static inline void put_bytes(const char *name, const void *data, size_t bytes)
{
    FILE *file = fopen(at(name), "wb");
    cr_assert(file);
    cr_assert_eq(fwrite(data, 1, bytes, file), bytes);
    cr_assert_eq(fclose(file), 0);
}

static inline void put(const char *name, const char *text)
{
    put_bytes(name, text, strlen(text));
}

static inline void make_dir(const char *name)
{
    cr_assert_eq(mkdir(at(name), 0777), 0);
}

#endif
