/* What runs one operation on the device and holds it against the reference (oracle/oracle.h): for the tests and the
 * self-test alike, so nothing here knows of a test framework.
 *
 *     ops_begin(o, result, seed, "rmsnorm T %u, D %u", T, D);
 *     struct ops_array x = ops_in(o, T * D, 1), w = ops_in(o, D, 1), y = ops_out(o, T * D);
 *     vkm_op_rmsnorm(ops_record(o), x.buf, w.buf, y.buf, T, D, 1e-5f);
 *     if (ops_run(o)) {
 *         struct num *want = ops_new(o, T * D);
 *         ref_rmsnorm(T, D, ops_num(o, x), ops_num(o, w), 1e-5f, want, NULL);
 *         ops_expect(o, "y", y, want);
 *     }
 *     return ops_end(o);
 *
 * All arrays of a case lie in one buffer that is otherwise full of one NaN: what a kernel reads beside an array
 * spoils its result, and what it writes there is found. Arrays that a kernel should only read must not change. */
#ifndef VKM_OPS_FIXTURE_H
#define VKM_OPS_FIXTURE_H

#include "oracle/oracle.h"

#include "gpu/recorder.h"

struct ops_result {
    char name[128];       /* of the case: shape and seed */
    char failure[400];    /* the first thing that was wrong; empty where nothing was */
    char worst[32];       /* output with the largest error / bound */
    double ratio;         /* there */
    size_t values;        /* compared */
};

struct ops_array {
    struct vkm_buf buf;
    size_t count;         /* 32-bit words */
    size_t at;            /* in the images */
};

enum { OPS_MAX_ARRAYS = 64, OPS_MAX_OWNED = 128 };

struct ops;

/* Kernels to run the cases with, where a device can be made to use others than its own. */
struct ops_variant {
    const char *name;                                   /* a word */
    const char *text;                                   /* in words */
    uint32_t type;                                      /* of the operands; TYPE_F32: for operations that have no other */
    bool (*offered)(const struct vkmoe_context *ctx);   /* on this device, where it differs from the others; NULL: on all */
    void (*choose)(struct ops *o);                      /* may change o->ctx->caps; NULL: nothing to do */
};
/* Ends in a row of zeros; first come the device's own kernels. */
extern const struct ops_variant ops_variants[];
/* Whether operations of that kind (narrow: with 16-bit operands; lanes: see struct ops_case) run so. */
bool ops_variant_fits(const struct ops_variant *variant, bool narrow, bool lanes);

struct ops {
    struct vkmoe_context *ctx;
    struct vkm_caps caps;               /* of ctx before the variant was chosen */
    struct vkm_arena *arena;
    struct vkm_buf buf;                 /* all arrays of a case */
    uint32_t *before, *after;           /* its words as uploaded, and as the device left them */
    size_t used;                        /* words */

    struct ops_result *result;
    uint64_t seed;
    uint32_t type;                      /* of the variant */
    struct vkm_rec *rec;
    struct {
        size_t at, count;
        bool written;                   /* a kernel may write to it */
    } arrays[OPS_MAX_ARRAYS];
    size_t array_count;
    void *owned[OPS_MAX_OWNED];         /* freed at the end of the case */
    size_t owned_count;
};

/* On a context that outlives it, whose ctx->caps are the variant's until ops_destroy. The variant must be offered. */
enum vkmoe_status ops_create(struct vkmoe_context *ctx, const struct ops_variant *variant, struct ops **out);
void ops_destroy(struct ops *o);

/* Starts a case: the format names it. *result is overwritten and filled until ops_end. */
void ops_begin(struct ops *o, struct ops_result *result, uint64_t seed, const char *fmt, ...) VKM_PRINTF(4, 5);
/* Ends it and frees what it had; true: nothing was wrong. */
bool ops_end(struct ops *o);

/* Arrays of `count` f32 or u32. In: read only; random in [-scale, scale], or a copy. Out: NaN before. Added: random
 * in [-1, 1], a kernel adds to it. Scratch: NaN before, not compared. Changed: a copy that a kernel overwrites in
 * place. */
struct ops_array ops_in(struct ops *o, size_t count, float scale);
struct ops_array ops_in_copy(struct ops *o, size_t count, const void *data);
struct ops_array ops_out(struct ops *o, size_t count);
struct ops_array ops_added(struct ops *o, size_t count);
struct ops_array ops_scratch(struct ops *o, uint64_t bytes);
struct ops_array ops_changed(struct ops *o, size_t count, const void *data);
struct ops_array ops_changed_random(struct ops *o, size_t count, float scale);

/* What the array held before the run, and holds after it. Valid until ops_end. */
float *ops_floats_before(struct ops *o, struct ops_array a);
const float *ops_floats(const struct ops *o, struct ops_array a);
const uint32_t *ops_words(const struct ops *o, struct ops_array a);

/* Numbers, words and floats of the case: zero; freed at its end. */
struct num *ops_new(struct ops *o, size_t count);
uint32_t *ops_new_words(struct ops *o, size_t count);
float *ops_new_floats(struct ops *o, size_t count);
/* What the array held before the run, exactly. */
struct num *ops_num(struct ops *o, struct ops_array a);

/* The recording of the case. */
struct vkm_rec *ops_record(struct ops *o);
/* Runs it and looks at everything that it should not have changed. false: it could not run. */
bool ops_run(struct ops *o);

/* The array, or floats derived from it, against the reference; all words exactly. */
void ops_expect(struct ops *o, const char *name, struct ops_array a, const struct num *want);
void ops_expect_floats(struct ops *o, const char *name, const float *got, size_t count, const struct num *want);
void ops_expect_words(struct ops *o, const char *name, struct ops_array a, const uint32_t *want);
/* Whether all are below the limit, as what a reference takes for indices has to be; what a device left may be anything. */
bool ops_below(struct ops *o, const char *name, const uint32_t *words, size_t count, size_t limit);
/* Notes a failure, the first of the case. */
void ops_fail(struct ops *o, const char *fmt, ...) VKM_PRINTF(2, 3);

#endif
