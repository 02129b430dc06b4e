#define _XOPEN_SOURCE 700 /* nftw */
#include "fuzz.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static struct {
    unsigned errors, lines;
    char last[1024];
} seen;

_Noreturn void fuzz_fail(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: %s does not hold; the last line was \"%s\"\n", file, line, condition, seen.last);
    abort();
}

size_t fuzz_parts(const uint8_t *data, size_t bytes, struct fuzz_part parts[FUZZ_PARTS])
{
    size_t count = 0, begin = 0;
    memset(parts, 0, FUZZ_PARTS * sizeof *parts);
    for (size_t i = 0; i < bytes && count + 1 < FUZZ_PARTS; i++)
        if (data[i] == FUZZ_CUT && i > 0 && data[i - 1] == '\n' && i + 1 < bytes && data[i + 1] == '\n') {
            parts[count++] = (struct fuzz_part){data + begin, i - begin};
            begin = i + 2;
        }
    parts[count++] = (struct fuzz_part){data + begin, bytes - begin};
    return count;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static char directory[200];

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void remove_directory(void)
{
    nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void make_directory(void)
{
    const char *given = getenv("FUZZ_DIR"), *temporary = getenv("TMPDIR");
    const char *place = given ? given : access("/dev/shm", W_OK) == 0 ? "/dev/shm" : temporary ? temporary : "/tmp";
    fuzz_require(snprintf(directory, sizeof directory, "%s/vkmoe-fuzz-XXXXXX", place) < (int)sizeof directory);
    fuzz_require(mkdtemp(directory));
    atexit(remove_directory);
}

const char *fuzz_path(const char *name)
{
    static char paths[16][256];
    static unsigned next;
    char *path = paths[next++ % 16];
    if (!directory[0])
        make_directory();
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

void fuzz_put(const char *name, const struct fuzz_part *part)
{
    const char *path = fuzz_path(name);
    if (!part) {
        unlink(path);
        return;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        char parent[256];
        snprintf(parent, sizeof parent, "%s", path);
        *strrchr(parent, '/') = '\0';
        fuzz_require(vkm_dir_create(NULL, parent) == VKMOE_OK);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    }
    fuzz_require(fd >= 0);
    fuzz_require(part->bytes == 0 || write(fd, part->data, part->bytes) == (ssize_t)part->bytes);
    close(fd);
}

char *fuzz_get(const char *name)
{
    char *text;
    size_t bytes;
    fuzz_require(vkm_file_read(NULL, fuzz_path(name), UINT64_C(1) << 28, &text, &bytes) == VKMOE_OK);
    return text;
}

/* ---- what is said ------------------------------------------------------------------------------------------------ */

static void on_line(void *user, enum vkmoe_log_level level, const char *line)
{
    (void)user;
    fuzz_require(!strpbrk(line, "\n\r\033"));
    snprintf(seen.last, sizeof seen.last, "%s", line);
    seen.errors += level == VKMOE_LOG_ERROR;
}

const struct vkmoe_log *fuzz_log(void)
{
    static const struct vkmoe_log log = {.fn = on_line};
    seen.errors = 0;
    return &log;
}

bool fuzz_fine(enum vkmoe_status status)
{
    fuzz_require(seen.errors == (status != VKMOE_OK));
    fuzz_require(status == VKMOE_OK || status == VKMOE_ERROR_FORMAT || status == VKMOE_ERROR_IO || status == VKMOE_ERROR_ARGUMENT);
    seen.errors = 0;
    return status == VKMOE_OK;
}

unsigned fuzz_messages(void)
{
    const unsigned lines = seen.lines;
    seen.lines = 0;
    return lines;
}

__attribute__((format(printf, 1, 2))) void __wrap_message(const char *format, ...);

void __wrap_message(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(seen.last, sizeof seen.last, format, arguments);
    va_end(arguments);
    seen.lines++;
}
