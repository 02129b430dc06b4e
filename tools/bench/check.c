#include "bench/check.h"

#include <math.h>
#include <stdlib.h>

#include "cases/narrow.h"
#include "shared.h"

void check_begin(struct check *c, struct vkmoe_context *ctx, const char *what, const char *shape)
{
    *c = (struct check){.ctx = ctx, .what = what, .shape = shape};
}

enum vkmoe_status check_end(struct check *c)
{
    for (size_t i = 0; i < c->owned_count; i++)
        free(c->owned[i]);
    free(c->owned);
    return c->status;
}

/* As the reference does: out of memory, it ends here. */
static void *own(struct check *c, void *p)
{
    void **more = realloc(c->owned, (c->owned_count + 1) * sizeof *more);
    if (!p || !more)
        abort();
    c->owned = more;
    return c->owned[c->owned_count++] = p;
}

struct num *check_new(struct check *c, size_t count)
{
    return own(c, ref_new(count));
}

uint32_t *check_new_words(struct check *c, size_t count)
{
    return own(c, calloc(count ? count : 1, sizeof(uint32_t)));
}

float *check_read_floats(struct check *c, struct vkm_buf buf, uint32_t type, uint64_t first, size_t count)
{
    const size_t size = type == TYPE_F32 ? sizeof(float) : sizeof(uint16_t);
    float *x = own(c, calloc(count ? count : 1, sizeof *x));
    uint16_t *bits = own(c, calloc(count ? count : 1, sizeof *bits));
    if (!c->status)
        c->status = vkm_buf_download(c->ctx, vkm_buf_slice(buf, first * size, count * size),
                                     type == TYPE_F32 ? (void *)x : (void *)bits, count * size);
    for (size_t i = 0; i < count && type != TYPE_F32; i++)
        x[i] = narrow_value(type, bits[i]);
    return x;
}

struct num *check_read(struct check *c, struct vkm_buf buf, uint32_t type, uint64_t first, size_t count)
{
    return own(c, ref_exact_new(check_read_floats(c, buf, type, first, count), count));
}

static struct num *magnitudes(struct check *c, const struct num *x, size_t count)
{
    struct num *y = check_new(c, count);
    for (size_t i = 0; i < count; i++)
        y[i] = num_exact(fabs(x[i].v));
    return y;
}

struct num *check_product(struct check *c, uint32_t type, size_t n, size_t k, const struct num *a, const struct num *b)
{
    struct num *want = check_new(c, n);
    ref_gemm_nt(1, n, k, 1, a, b, false, want);
    if (type != TYPE_F32 && c->ctx->caps.cm[type].use) {
        struct num *sizes = check_new(c, n);
        ref_gemm_nt(1, n, k, 1, magnitudes(c, a, k), magnitudes(c, b, n * k), false, sizes);
        narrow_allow_cutting(k, n, sizes, want);
    }
    return want;
}

struct num *check_combined(struct check *c, size_t K, size_t D, const struct num *g, const struct num *rows)
{
    struct num *sum = check_new(c, D);
    uint32_t *row = check_new_words(c, K);
    for (uint32_t k = 0; k < K; k++)
        row[k] = k;
    ref_combine(1, D, K, row, g, rows, sum);
    return sum;
}

static void wrong(struct check *c, const char *name, uint64_t index, double got, double want, double allowed)
{
    c->status = vkm_fail(&c->ctx->log, VKMOE_ERROR_DEVICE,
                         "%s (%s) computes '%s' (%s) wrong: %s[%llu] is %.9g instead of %.9g, with %.2g allowed; its figures "
                         "would mean nothing, see 'vkmoe selftest'", c->ctx->info.name, c->ctx->info.driver, c->what, c->shape,
                         name, (unsigned long long)index, got, want, allowed);
}

void check_expect(struct check *c, const char *name, struct vkm_buf buf, uint32_t type, uint64_t first, const struct num *want,
                  size_t count)
{
    const float *got = check_read_floats(c, buf, type, first, count);
    struct num *stored = check_new(c, count);
    for (size_t i = 0; i < count; i++)
        stored[i] = type == TYPE_F32 ? want[i] : narrow_stored(type, want[i]);
    const struct ref_check result = ref_compare(got, stored, count);
    if (!c->status && !ref_ok(&result))
        wrong(c, name, first + result.index, result.got, result.v, result.e);
}

static uint32_t *read_words(struct check *c, struct vkm_buf buf, uint64_t first, size_t count)
{
    uint32_t *x = check_new_words(c, count);
    if (!c->status)
        c->status = vkm_buf_download(c->ctx, vkm_buf_slice(buf, first * sizeof *x, count * sizeof *x), x, count * sizeof *x);
    return x;
}

uint32_t *check_read_words(struct check *c, struct vkm_buf buf, uint32_t below)
{
    const size_t count = buf.bytes / sizeof(uint32_t);
    uint32_t *x = read_words(c, buf, 0, count);
    for (size_t i = 0; i < count; i++)
        if (x[i] >= below) {
            if (!c->status)
                wrong(c, "idx", i, x[i], below - 1, 0);
            x[i] = 0;
        }
    return x;
}

void check_expect_words(struct check *c, const char *name, struct vkm_buf buf, uint64_t first, const uint32_t *want, size_t count)
{
    const uint32_t *got = read_words(c, buf, first, count);
    for (size_t i = 0; i < count && !c->status; i++)
        if (got[i] != want[i])
            wrong(c, name, first + i, got[i], want[i], 0);
}

uint64_t check_place(uint64_t count, uint64_t length, int i)
{
    const uint64_t last = count > length ? count - length : 0;
    return i == CHECK_PLACES - 1 ? last : last * (uint64_t)i / (CHECK_PLACES - 1) / 2 * 2;
}
