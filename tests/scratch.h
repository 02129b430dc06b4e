/* For tests of files: a directory of the test's own, and a log that counts. */
#ifndef SCRATCH_H
#define SCRATCH_H

#include "scratch_dir.h"

static struct {
    char line[1024];                /* newest error */
    unsigned errors;
} seen;
static inline void on_log(void *user, enum vkmoe_log_level level, const char *line)
{
    (void)user;
    if (level != VKMOE_LOG_ERROR)
        return;
    snprintf(seen.line, sizeof seen.line, "%s", line);
    seen.errors++;
}

static const struct vkmoe_log test_log = {.fn = on_log};

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
