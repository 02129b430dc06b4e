#include "ops_fixture.h"

#include "cases/cases.h"
#include "ops/probe.h"
#include "ops/tiles.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CAPACITY = 12 << 20,          /* words that the arrays of a case may have */
    ALIGN = VKM_BUF_ALIGN / 4,    /* arrays begin as the library's buffers do */
    GUARD = 64,                   /* words of the NaN before and behind each */
};
static const uint32_t canary = 0x7fc0dead; /* a NaN as f32, no index as u32 */

static bool is_cpu(const struct vkmoe_context *ctx)
{
    return ctx->caps.cpu;
}

static void choose_gpu(struct ops *o)
{
    o->ctx->caps.cpu = false;
}

/* The way that the device is slower with; its compiler takes long for deep panels. */
static void choose_lanes(struct ops *o)
{
    o->ctx->caps.lanes = o->ctx->caps.lanes ? 0 : 16;
}

static bool has_storage16(const struct vkmoe_context *ctx)
{
    return ctx->caps.storage16;
}

static bool is_cpu_storage16(const struct vkmoe_context *ctx)
{
    return ctx->caps.cpu && ctx->caps.storage16;
}

static bool has_f16_matrices(const struct vkmoe_context *ctx)
{
    return vkm_gemm_has_cm(ctx, TYPE_F16);
}

static bool has_bf16_matrices(const struct vkmoe_context *ctx)
{
    return vkm_gemm_has_cm(ctx, TYPE_BF16);
}

static void choose_matrices(struct ops *o)
{
    o->ctx->caps.cm[o->type].use = o->ctx->caps.cm[o->type].use_attention = true;
}

static bool is_cpu_f16_matrices(const struct vkmoe_context *ctx)
{
    return ctx->caps.cpu && has_f16_matrices(ctx);
}

static void choose_gpu_matrices(struct ops *o)
{
    choose_gpu(o);
    choose_matrices(o);
}

const struct ops_variant ops_variants[] = {
    {"own", "kernels of this device", TYPE_F32, NULL, NULL},
    {"gpu", "kernels for a GPU", TYPE_F32, is_cpu, choose_gpu},
    {"lanes", "lanes' neighbours loaded the other way", TYPE_F32, vkm_has_lanes, choose_lanes},
    {"f16", "operands in f16", TYPE_F16, has_storage16, NULL},
    {"bf16", "operands in bf16", TYPE_BF16, has_storage16, NULL},
    {"f16 gpu", "operands in f16, kernels for a GPU", TYPE_F16, is_cpu_storage16, choose_gpu},
    {"bf16 gpu", "operands in bf16, kernels for a GPU", TYPE_BF16, is_cpu_storage16, choose_gpu},
    {"f16 cm", "cooperative matrices of f16", TYPE_F16, has_f16_matrices, choose_matrices},
    {"f16 cm gpu", "cooperative matrices of f16, tiles for a GPU", TYPE_F16, is_cpu_f16_matrices, choose_gpu_matrices},
    {"bf16 cm", "cooperative matrices of bf16", TYPE_BF16, has_bf16_matrices, choose_matrices},
    {0},
};

bool ops_variant_fits(const struct ops_variant *variant, bool narrow, bool lanes)
{
    return (variant->type != TYPE_F32) == narrow && (variant->choose != choose_lanes || lanes);
}

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

enum vkmoe_status ops_create(struct vkmoe_context *ctx, const struct ops_variant *variant, struct ops **out)
{
    struct ops *o = must(calloc(1, sizeof *o));
    o->ctx = ctx;
    enum vkmoe_status status = vkm_lanes_probe(ctx);
    o->caps = ctx->caps;
    o->type = variant->type;
    for (int type = TYPE_F16; type <= TYPE_BF16; type++)
        ctx->caps.cm[type].use = ctx->caps.cm[type].use_attention = false;
    if (variant->choose)
        variant->choose(o);
    o->before = must(malloc(4ull * CAPACITY));
    o->after = must(malloc(4ull * CAPACITY));
    if (!status && !(status = vkm_arena_create(ctx, "cases", VKM_MEMORY_DEVICE, &o->arena))) {
        vkm_arena_reserve(o->arena, "arrays", 4ull * CAPACITY, &o->buf);
        status = vkm_arena_commit(o->arena);
    }
    *out = status ? NULL : o;
    if (status)
        ops_destroy(o);
    return status;
}

void ops_destroy(struct ops *o)
{
    vkm_arena_destroy(o->arena);
    o->ctx->caps = o->caps;
    free(o->before);
    free(o->after);
    free(o);
}

void ops_begin(struct ops *o, struct ops_result *result, uint64_t seed, const char *fmt, ...)
{
    va_list args;
    *result = (struct ops_result){0};
    va_start(args, fmt);
    int length = vsnprintf(result->name, sizeof result->name, fmt, args);
    va_end(args);
    if (length >= 0 && (size_t)length < sizeof result->name)
        snprintf(result->name + length, sizeof result->name - (size_t)length, ", seed %llu", (unsigned long long)seed);
    o->result = result;
    o->seed = seed;
    o->used = 0;
    o->array_count = 0;
}

bool ops_end(struct ops *o)
{
    vkm_rec_destroy(o->rec);
    o->rec = NULL;
    while (o->owned_count)
        free(o->owned[--o->owned_count]);
    return !o->result->failure[0];
}

void ops_fail(struct ops *o, const char *fmt, ...)
{
    va_list args;
    if (o->result->failure[0])
        return;
    va_start(args, fmt);
    vsnprintf(o->result->failure, sizeof o->result->failure, fmt, args);
    va_end(args);
}

static void *own(struct ops *o, void *p)
{
    if (o->owned_count == OPS_MAX_OWNED)
        abort();
    return o->owned[o->owned_count++] = must(p);
}

static struct ops_array add(struct ops *o, size_t count, bool written)
{
    const size_t at = (o->used + GUARD + ALIGN - 1) / ALIGN * ALIGN, end = at + count + GUARD;
    if (o->array_count == OPS_MAX_ARRAYS || end > CAPACITY)
        abort();
    for (size_t i = o->used; i < end; i++)
        o->before[i] = canary;
    o->used = end;
    o->arrays[o->array_count].at = at;
    o->arrays[o->array_count].count = count;
    o->arrays[o->array_count++].written = written;
    return (struct ops_array){.buf = vkm_buf_slice(o->buf, 4 * at, 4 * count), .count = count, .at = at};
}

static struct ops_array filled(struct ops *o, size_t count, bool written, float scale)
{
    struct ops_array a = add(o, count, written);
    case_fill(ops_floats_before(o, a), count, o->seed * OPS_MAX_ARRAYS + o->array_count, scale);
    return a;
}

static struct ops_array copied(struct ops *o, size_t count, bool written, const void *data)
{
    struct ops_array a = add(o, count, written);
    memcpy(o->before + a.at, data, 4 * count);
    return a;
}

struct ops_array ops_in(struct ops *o, size_t count, float scale)
{
    return filled(o, count, false, scale);
}

struct ops_array ops_in_copy(struct ops *o, size_t count, const void *data)
{
    return copied(o, count, false, data);
}

struct ops_array ops_out(struct ops *o, size_t count)
{
    return add(o, count, true);
}

struct ops_array ops_added(struct ops *o, size_t count)
{
    return filled(o, count, true, 1);
}

struct ops_array ops_scratch(struct ops *o, uint64_t bytes)
{
    return add(o, (size_t)(bytes + 3) / 4, true);
}

struct ops_array ops_changed(struct ops *o, size_t count, const void *data)
{
    return copied(o, count, true, data);
}

struct ops_array ops_changed_random(struct ops *o, size_t count, float scale)
{
    return filled(o, count, true, scale);
}

float *ops_floats_before(struct ops *o, struct ops_array a)
{
    return (float *)o->before + a.at;
}

const float *ops_floats(const struct ops *o, struct ops_array a)
{
    return (const float *)o->after + a.at;
}

const uint32_t *ops_words(const struct ops *o, struct ops_array a)
{
    return o->after + a.at;
}

struct num *ops_new(struct ops *o, size_t count)
{
    return own(o, ref_new(count));
}

uint32_t *ops_new_words(struct ops *o, size_t count)
{
    return own(o, calloc(count ? count : 1, sizeof(uint32_t)));
}

float *ops_new_floats(struct ops *o, size_t count)
{
    return own(o, calloc(count ? count : 1, sizeof(float)));
}

struct num *ops_num(struct ops *o, struct ops_array a)
{
    return own(o, ref_exact_new(ops_floats_before(o, a), a.count));
}

struct vkm_rec *ops_record(struct ops *o)
{
    if (!o->rec && vkm_rec_create(o->ctx, "case", &o->rec))
        abort();
    return o->rec;
}

/* Everything but the arrays that kernels write is as it was. */
static void check_untouched(struct ops *o)
{
    size_t next = 0;
    for (size_t i = 0; i <= o->array_count; i++) {
        const size_t end = i < o->array_count ? o->arrays[i].at : o->used;
        for (; next < end; next++)
            if (o->after[next] != canary) {
                ops_fail(o, "array %zu of the case: written %zu words %s it", i ? i : 1,
                         i ? next - o->arrays[i - 1].at - o->arrays[i - 1].count + 1 : end - next,
                         i ? "behind" : "before");
                return;
            }
        if (i == o->array_count)
            return;
        next = end + o->arrays[i].count;
        if (!o->arrays[i].written && memcmp(o->before + end, o->after + end, 4 * o->arrays[i].count)) {
            ops_fail(o, "array %zu of the case, an input, was changed", i + 1);
            return;
        }
    }
}

bool ops_run(struct ops *o)
{
    uint64_t ticket = 0;
    enum vkmoe_status status;
    struct vkm_rec *rec = ops_record(o);
    if ((status = vkm_buf_upload(o->ctx, o->buf, o->before, 4 * o->used)) || (status = vkm_rec_end(rec)) ||
        (status = vkm_rec_submit(rec, &ticket)) || (status = vkm_wait(o->ctx, ticket)) ||
        (status = vkm_buf_download(o->ctx, o->buf, o->after, 4 * o->used))) {
        ops_fail(o, "%s", vkmoe_status_name(status));
        return false;
    }
    check_untouched(o);
    return true;
}

void ops_expect_floats(struct ops *o, const char *name, const float *got, size_t count, const struct num *want)
{
    struct ops_result *r = o->result;
    const struct ref_check c = ref_compare(got, want, count);
    r->values += count;
    if (!r->worst[0] || c.ratio > r->ratio) {
        r->ratio = c.ratio;
        snprintf(r->worst, sizeof r->worst, "%s", name);
    }
    if (!ref_ok(&c))
        ops_fail(o, "%s: %zu of %zu wrong%s, from [%zu] on; worst [%zu]: %.9g instead of %.9g, off by %.3g with %.3g allowed",
                 name, c.wrong, count, c.bad ? ", some not finite" : "", c.first, c.index, c.got, c.v,
                 fabs(c.got - c.v), c.e);
}

void ops_expect(struct ops *o, const char *name, struct ops_array a, const struct num *want)
{
    ops_expect_floats(o, name, ops_floats(o, a), a.count, want);
}

void ops_expect_words(struct ops *o, const char *name, struct ops_array a, const uint32_t *want)
{
    const uint32_t *got = ops_words(o, a);
    size_t first = 0, wrong = 0;
    o->result->values += a.count;
    for (size_t i = 0; i < a.count; i++)
        if (got[i] != want[i] && wrong++ == 0)
            first = i;
    if (wrong > 0)
        ops_fail(o, "%s: %zu of %zu wrong, from [%zu] on: %#x instead of %#x", name, wrong, a.count, first, got[first],
                 want[first]);
}

bool ops_below(struct ops *o, const char *name, const uint32_t *words, size_t count, size_t limit)
{
    for (size_t i = 0; i < count; i++)
        if (words[i] >= limit) {
            ops_fail(o, "%s[%zu] is %u, which has to be below %zu", name, i, words[i], limit);
            return false;
        }
    return true;
}
