#include "json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"

json_t *json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

double json_member(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static bool write_flushed(const char *path, const json_t *root)
{
    FILE *file = fopen(path, "wb");
    if (!file)
        return false;
    bool written = json_dumpf(root, file, JSON_INDENT(2)) == 0 && fputc('\n', file) != EOF && fflush(file) == 0 &&
                   fsync(fileno(file)) == 0;
    const int error = errno;
    if (fclose(file) != 0)
        return false;
    errno = error;
    return written;
}

bool json_save(const char *path, const json_t *root)
{
    char *temporary = join_text(path, "", ".tmp");
    bool saved = false;
    errno = ENOMEM;
    if (root && temporary) {
        errno = 0;
        saved = write_flushed(temporary, root) && rename(temporary, path) == 0;
        if (!saved) {
            const int error = errno;
            remove(temporary);
            errno = error;
        }
    }
    if (!saved)
        message("%s: %s", path, errno ? strerror(errno) : "a write failed");
    free(temporary);
    return saved;
}
