/* What `vkmoe selftest` found out, and the file it writes of it. */
#ifndef VKMOE_TOOLS_BENCH_SELFTEST_H
#define VKMOE_TOOLS_BENCH_SELFTEST_H

#include <stdbool.h>
#include <stddef.h>
#include <vkmoe/vkmoe.h>

#include "ops_cases.h"

/* One operation with one choice of kernels. */
struct selftest_result {
    const struct ops_case *operation;
    const struct ops_variant *variant;
    size_t cases, values;          /* that ran; compared in them */
    struct ops_result worst;       /* the case with the largest error / bound */
    double seconds;                /* the reference's among them */
    struct ops_result *failures;   /* [failure_count] */
    size_t failure_count;
    size_t complaints;             /* messages of the validation layers */
};

struct selftest {
    const struct vkmoe_device_info *device;
    uint32_t subgroup;             /* that kernels run with */
    const char *only;              /* part of the operations' names; NULL: all */
    bool validated;                /* under the validation layers */
    struct selftest_result *results;
    size_t count;                  /* of results that are complete */
    const struct selftest_result *running; /* what runs now: behind the complete ones; NULL: nothing */
    bool finished;
    bool lost;                     /* the device was lost: what came after it did not run */
};

/* Operations that ran, or only those that are wrong: with any kernels. `names` (may be NULL) gets them in a list. */
size_t selftest_operations(const struct selftest *test, bool wrong, char *names, size_t size);

/* Writes the file (docs/selftest.md) whole or not at all. false after a message. */
bool selftest_save(const struct selftest *test, const char *path);

#endif
