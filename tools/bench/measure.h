/* Times what is recorded, and keeps the figures. */
#ifndef VKMOE_BENCH_MEASURE_H
#define VKMOE_BENCH_MEASURE_H

#include "bench/bench.h"
#include "bench/fill.h"
#include "gpu/recorder.h"

#define CEILING_FMA_F32 "fma f32"
#define CEILING_COPY "copy"
#define CEILING_CM_F16 "cooperative matrices f16"
#define CEILING_CM_BF16 "cooperative matrices bf16"

enum { SECONDS_MOST = 3600 }; /* for a figure */

struct stamps;

struct bench {
    struct vkmoe_context *ctx;
    double seconds;            /* for each figure */
    struct stamps *stamps;     /* the device's timestamps; NULL: the wall clock is used */
    bool types[3];             /* TYPE_F32, TYPE_F16, TYPE_BF16 of products that are measured */
    double product_rate[3];    /* GFLOP/s: of single ones the best, then of the last layer; 0: not measured */
    struct bench_run run;
};

/* A bench on a context that outlives it. types: a bit for each TYPE_ of products, 0: those that the device is good at. */
enum vkmoe_status bench_begin(struct vkmoe_context *ctx, double seconds, unsigned types, struct bench *b);
void bench_end(struct bench *b);

/* What is timed. */
struct bench_case {
    void (*record)(struct vkm_rec *rec, void *user, uint32_t i); /* one execution, the i-th of its recording */
    void (*prepare)(struct vkm_rec *rec, void *user); /* before each recording, not timed; or NULL */
    void *user;
    uint32_t most;             /* executions in a recording, at most; 0: as many as make it long enough to time */
    double seconds;            /* to repeat it for; 0: the bench's */
    bool anyway;               /* however long it takes */
};

struct bench_times {
    double median, low, high;  /* seconds of an execution; quartiles */
    uint32_t repetitions;      /* 0: it was too slow, and only done once: median */
};

/* Runs it until the clocks are up, then repeats it for its seconds, five times at least; what takes longer than b->seconds
 * to do once is too slow. Executions of one recording wait
 * for each other where they touch the same memory, as they do in a training step. */
enum vkmoe_status bench_time(struct bench *b, const struct bench_case *c, struct bench_times *out);
/* From seconds measured otherwise; sorts them. */
struct bench_times bench_times_of(double *seconds, uint32_t count);

/* A result of work / time: `work` in units times seconds (GFLOP, GB, tokens). ceiling may be NULL. */
struct bench_result bench_rate(const struct bench *b, const char *group, const char *name, const char *unit,
                               const char *ceiling, double work, const struct bench_times *times);
/* The median of a ceiling that has been measured; NAN otherwise. */
double bench_ceiling(const struct bench *b, const char *name);

/* Prints and keeps them. */
enum vkmoe_status bench_report(struct bench *b, const struct bench_result *result);
enum vkmoe_status bench_skip(struct bench *b, const char *group, const char *name, const char *shape, const char *fmt, ...)
    VKM_PRINTF(5, 6);

/* Leaves out what takes so many seconds to do once. */
enum vkmoe_status bench_skip_slow(struct bench *b, const char *group, const char *name, const char *shape, double seconds);
/* GFLOP/s to expect of products of that type: what they reached, or else a third of their ceiling. */
double bench_product_rate(const struct bench *b, uint32_t type);

/* Whether so much device memory is free, with some left for everything else. */
bool bench_fits(const struct bench *b, uint64_t bytes);

/* The ceiling of products of that type: of cooperative matrices where they are used. */
const char *bench_product_ceiling(const struct bench *b, uint32_t type);
/* "product nt f16"; the name alone for f32. Returns text. */
const char *bench_typed_name(char text[40], const char *name, uint32_t type);

/* ---- what there is to measure ---- */

enum vkmoe_status bench_ceilings(struct bench *b);
enum vkmoe_status bench_ops(struct bench *b);
enum vkmoe_status bench_layer(struct bench *b);
enum vkmoe_status bench_steps(struct bench *b);

#endif
