/* Whether a device computes what is timed: samples of its results against the reference (oracle/oracle.h), within the bounds that
 * the reference derives.
 *
 *     check_begin(&c, ctx, "rmsnorm", "T 16384, D 512");
 *     struct num *x = check_read(&c, ...), *want = check_new(&c, D);
 *     ref_rmsnorm(1, D, x, ..., want, NULL);
 *     check_expect(&c, "y", y, TYPE_F32, row * D, want, D);
 *     status = check_end(&c);
 *
 * After the first thing that goes wrong, the others do nothing. Running out of memory aborts, as in the reference. */
#ifndef VKMOE_BENCH_CHECK_H
#define VKMOE_BENCH_CHECK_H

#include "gpu/recorder.h"
#include "oracle/oracle.h"

enum { CHECK_PLACES = 4, CHECK_WINDOW = 16 };

struct check {
    struct vkmoe_context *ctx;
    const char *what, *shape;  /* of what is checked: for the message */
    enum vkmoe_status status;
    void **owned;              /* freed at the end */
    size_t owned_count;
};

void check_begin(struct check *c, struct vkmoe_context *ctx, const char *what, const char *shape);
/* Frees what it had. ERROR_DEVICE after a message where something was wrong. */
enum vkmoe_status check_end(struct check *c);

/* Room for so many numbers; they are zero. */
struct num *check_new(struct check *c, size_t count);
uint32_t *check_new_words(struct check *c, size_t count);

/* What the device holds, from number `first` on, exactly; of 16-bit types `first` and `count` are even. Zeros where something is
 * wrong already. */
float *check_read_floats(struct check *c, struct vkm_buf buf, uint32_t type, uint64_t first, size_t count);
struct num *check_read(struct check *c, struct vkm_buf buf, uint32_t type, uint64_t first, size_t count);
/* Indices: all of them, each below a limit, or else they are zero. */
uint32_t *check_read_words(struct check *c, struct vkm_buf buf, uint32_t below);

/* a [k] times each row of b [n,k], as operands of that type: cooperative matrices may cut sums off. */
struct num *check_product(struct check *c, uint32_t type, size_t n, size_t k, const struct num *a, const struct num *b);

/* sum_k g [K] rows [K,D] as [D]; g NULL means 1 */
struct num *check_combined(struct check *c, size_t K, size_t D, const struct num *g, const struct num *rows);

/* The device holds that, from number `first` on; in a 16-bit type, rounded to it. */
void check_expect(struct check *c, const char *name, struct vkm_buf buf, uint32_t type, uint64_t first, const struct num *want,
                  size_t count);
void check_expect_words(struct check *c, const char *name, struct vkm_buf buf, uint64_t first, const uint32_t *want, size_t count);

/* How many of n columns are looked at. */
static inline size_t check_window(size_t n)
{
    return n < CHECK_WINDOW ? n : CHECK_WINDOW;
}
/* Of `count` numbers, where the i-th of CHECK_PLACES samples of `length` begins: at the first, up to the last, and at even places
 * between. */
uint64_t check_place(uint64_t count, uint64_t length, int i);

#endif
