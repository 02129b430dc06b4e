/* For tests of files: a directory of the test's own, and a log that counts. */
#ifndef SCRATCH_H
#define SCRATCH_H

#include "base/file.h"

#include <criterion/criterion.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct {
    char line[1024];                /* newest error */
    unsigned errors;
} seen;
static char scratch[64];

static inline void on_log(void *user, enum vkmoe_log_level level, const char *line)
{
    (void)user;
    if (level != VKMOE_LOG_ERROR)
        return;
    snprintf(seen.line, sizeof seen.line, "%s", line);
    seen.errors++;
}

static const struct vkmoe_log test_log = {.fn = on_log};

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

/* The failure that is wanted, said in one line that contains `part`. */
#define expect_failure(call, wanted, part) \
    do { \
        seen.errors = 0; \
        seen.line[0] = '\0'; \
        cr_expect_eq(call, wanted, "%s: %s", #call, seen.line); \
        cr_expect_eq(seen.errors, 1, "%s: %u lines, the last \"%s\"", #call, seen.errors, seen.line); \
        cr_expect(strstr(seen.line, part), "%s: \"%s\" does not say \"%s\"", #call, seen.line, part); \
    } while (0)

#define assert_ok(call) \
    do { \
        seen.line[0] = '\0'; \
        cr_assert_eq(call, VKMOE_OK, "%s: %s", #call, seen.line); \
    } while (0)

#endif
