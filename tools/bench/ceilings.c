/* What the device can do at best: arithmetic, memory, launching. The rest is held against it. */
#include <math.h>
#include <stdio.h>

#include "bench/measure.h"
#include "ops/tiles.h"

/* Times what works on one buffer of that size, which it finds in *buf. */
static enum vkmoe_status time_on(struct bench *b, uint64_t bytes, struct vkm_buf *buf,
                                 void (*record)(struct vkm_rec *rec, void *user, uint32_t i), void *user,
                                 struct bench_times *times)
{
    struct vkm_arena *arena;
    enum vkmoe_status status = vkm_arena_create(b->ctx, "bench", VKM_MEMORY_DEVICE, &arena);
    if (status)
        return status;
    vkm_arena_reserve(arena, "out", bytes, buf);
    if (!(status = vkm_arena_commit(arena)))
        status = bench_time(b, &(struct bench_case){.record = record, .user = user, .anyway = true}, times);
    vkm_arena_destroy(arena);
    return status;
}

/* ---- arithmetic ------------------------------------------------------------------------------------------------- */

struct fma {
    struct vkm_buf out;
    uint32_t groups, wg;
    uint32_t loops;
};

static void record_fma(struct vkm_rec *rec, void *user, uint32_t i)
{
    const struct fma *f = user;
    /* a converges to y / (1 - x) = 0.5, neither large nor denormal; no sum is negative. */
    struct vkm_bench_fma_args args = {.out_ = f->out.addr, .x = 0.5f, .y = 0.25f, .never = -1, .loops = f->loops};
    (void)i;
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("bench.fma", VKM_KERNEL_BENCH_FMA, f->wg, args),
        .groups = vkm_groups(vkm_rec_context(rec), f->groups), .write = {f->out},
        .flops = (uint64_t)f->groups * f->wg * f->loops * BENCH_FMA_LOOP});
}

static enum vkmoe_status fma_f32(struct bench *b, const char *name, struct bench_result *r)
{
    /* Enough workgroups that a part-filled last wave of them does not count. */
    struct fma f = {.groups = b->ctx->caps.cpu ? 512 : 32768, .wg = vkm_tiles(b->ctx).flat_wg, .loops = 64};
    struct bench_times times;
    enum vkmoe_status status = time_on(b, sizeof(float), &f.out, record_fma, &f, &times);
    if (status)
        return status;
    const double flops = (double)f.groups * f.wg * f.loops * BENCH_FMA_LOOP;
    *r = bench_rate(b, "ceilings", name, "GFLOP/s", NULL, 1e-9 * flops, &times);
    snprintf(r->note, sizeof r->note, "multiply-adds in registers, two operations each");
    return VKMOE_OK;
}

/* ---- cooperative matrices ---------------------------------------------------------------------------------------- */

struct matrices {
    struct fma f;
    uint32_t type;
};

static void record_matrices(struct vkm_rec *rec, void *user, uint32_t i)
{
    const struct matrices *m = user;
    const struct vkm_cm *cm = &vkm_rec_context(rec)->caps.cm[m->type];
    struct vkm_bench_fma_args args = {.out_ = m->f.out.addr, .x = 0.5f, .y = 0.25f, .never = -1, .loops = m->f.loops};
    (void)i;
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        .label = "bench.cm", .kernel = m->type == TYPE_F16 ? VKM_KERNEL_BENCH_CM_F16 : VKM_KERNEL_BENCH_CM_BF16,
        .spec = {[0] = m->f.wg, [SPEC_BENCH_CM_M] = cm->m, [SPEC_BENCH_CM_N] = cm->n, [SPEC_BENCH_CM_K] = cm->k},
        .spec_count = SPEC_BENCH_CM_K + 1, .args = &args, .args_bytes = sizeof args,
        .groups = vkm_groups(vkm_rec_context(rec), m->f.groups), .write = {m->f.out}});
}

static enum vkmoe_status matrices(struct bench *b, const char *name, uint32_t type, struct bench_result *r)
{
    const struct vkm_caps *caps = &b->ctx->caps;
    const struct vkm_cm *cm = &caps->cm[type];
    const uint32_t subgroups = caps->cpu ? 1 : 256 / caps->subgroup;
    struct matrices m = {.type = type, .f = {.groups = caps->cpu ? 16 : 4096, .wg = subgroups * caps->subgroup,
                                             .loops = caps->cpu ? 8 : 256}};
    struct bench_times times;
    enum vkmoe_status status = time_on(b, sizeof(float), &m.f.out, record_matrices, &m, &times);
    if (status)
        return status;
    const double flops = 2.0 * cm->m * cm->n * cm->k * BENCH_CM_CHAINS * m.f.loops * subgroups * m.f.groups;
    *r = bench_rate(b, "ceilings", name, "GFLOP/s", NULL, 1e-9 * flops, &times);
    snprintf(r->shape, sizeof r->shape, "%u x %u x %u", cm->m, cm->n, cm->k);
    snprintf(r->note, sizeof r->note, "products in registers, sums in f32; %s by training",
             cm->use ? "used" : "slower than without or wrong: not used");
    return VKMOE_OK;
}

static bool has_f16(const struct vkmoe_context *ctx)
{
    return vkm_gemm_has_cm(ctx, TYPE_F16);
}

static bool has_bf16(const struct vkmoe_context *ctx)
{
    return vkm_gemm_has_cm(ctx, TYPE_BF16);
}

static enum vkmoe_status matrices_f16(struct bench *b, const char *name, struct bench_result *r)
{
    return matrices(b, name, TYPE_F16, r);
}

static enum vkmoe_status matrices_bf16(struct bench *b, const char *name, struct bench_result *r)
{
    return matrices(b, name, TYPE_BF16, r);
}

/* ---- memory ----------------------------------------------------------------------------------------------------- */

struct copy {
    struct vkm_buf src, dst;
};

static void record_copy_kernel(struct vkm_rec *rec, void *user, uint32_t i)
{
    const struct copy *c = user;
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    const uint32_t wg = vkm_tiles(ctx).flat_wg, count = (uint32_t)(c->src.bytes / 16);
    struct vkm_bench_copy_args args = {c->src.addr, c->dst.addr, count};
    (void)i;
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("bench.copy", VKM_KERNEL_BENCH_COPY, wg, args),
        .groups = vkm_groups(ctx, vkm_div_up(count, wg * BENCH_COPY_EACH)), .read = {c->src}, .write = {c->dst}});
}

static void record_copy_command(struct vkm_rec *rec, void *user, uint32_t i)
{
    const struct copy *c = user;
    (void)i;
    vkm_rec_copy(rec, c->dst, c->src);
}

/* Well past any cache, but a small part of what there is. */
static uint64_t copy_bytes(const struct vkmoe_context *ctx)
{
    uint64_t bytes = ctx->caps.cpu ? 256 << 20 : 512 << 20;
    while (bytes > 16 << 20 && (bytes > vkm_memory_available(ctx) / 8 || bytes > ctx->caps.max_block / 2))
        bytes /= 2;
    return bytes;
}

static enum vkmoe_status copy(struct bench *b, const char *name, struct bench_result *r)
{
    const uint64_t bytes = copy_bytes(b->ctx);
    struct copy c;
    struct vkm_arena *arena;
    struct bench_times kernel, command;
    enum vkmoe_status status = vkm_arena_create(b->ctx, "bench", VKM_MEMORY_DEVICE, &arena);
    if (status)
        return status;
    vkm_arena_reserve(arena, "source", bytes, &c.src);
    vkm_arena_reserve(arena, "destination", bytes, &c.dst);
    if ((status = vkm_arena_commit(arena)) || (status = bench_fill(b->ctx, c.src, 1, 1)) ||
        (status = bench_time(b, &(struct bench_case){.record = record_copy_kernel, .user = &c, .anyway = true}, &kernel)) ||
        (status = bench_time(b, &(struct bench_case){.record = record_copy_command, .user = &c, .anyway = true}, &command)))
        goto done;
    const bool by_kernel = kernel.median < command.median;
    *r = bench_rate(b, "ceilings", name, "GB/s", NULL, 2e-9 * (double)bytes, by_kernel ? &kernel : &command);
    snprintf(r->shape, sizeof r->shape, "%u MiB", (unsigned)(bytes >> 20));
    snprintf(r->note, sizeof r->note, "read and written bytes; by %s (the other way: %.3g)",
             by_kernel ? "a kernel" : "vkCmdCopyBuffer", 2e-9 * (double)bytes / (by_kernel ? command : kernel).median);
done:
    vkm_arena_destroy(arena);
    return status;
}

/* ---- launches --------------------------------------------------------------------------------------------------- */

struct launch {
    struct vkm_buf buf;
    bool dependent;
};

/* A dispatch of one workgroup that finds nothing to do. */
static void record_launch(struct vkm_rec *rec, void *user, uint32_t i)
{
    const struct launch *l = user;
    struct vkm_fill_args args = {.v = l->buf.addr, .count = 0};
    struct vkm_dispatch dispatch = {
        VKM_DISPATCH("bench.launch", VKM_KERNEL_FILL, vkm_tiles(vkm_rec_context(rec)).flat_wg, args),
        .groups = {1, 1, 1}};
    (void)i;
    if (l->dependent)
        dispatch.write[0] = l->buf;
    vkm_rec_dispatch(rec, &dispatch);
}

static enum vkmoe_status launch(struct bench *b, const char *name, bool dependent, struct bench_result *r)
{
    struct launch l = {.dependent = dependent};
    struct bench_times times;
    enum vkmoe_status status = time_on(b, sizeof(uint32_t), &l.buf, record_launch, &l, &times);
    if (status)
        return status;
    *r = bench_rate(b, "ceilings", name, "us", NULL, 1, &times);
    r->median = 1e6 * times.median; /* a time, not a rate */
    r->low = 1e6 * times.low;
    r->high = 1e6 * times.high;
    snprintf(r->note, sizeof r->note, "an empty dispatch, %s", dependent ? "with a barrier before it" : "without barriers");
    return VKMOE_OK;
}

static enum vkmoe_status launch_dependent(struct bench *b, const char *name, struct bench_result *r)
{
    return launch(b, name, true, r);
}

static enum vkmoe_status launch_independent(struct bench *b, const char *name, struct bench_result *r)
{
    return launch(b, name, false, r);
}

/* ---- the table -------------------------------------------------------------------------------------------------- */

static const struct ceiling {
    const char *name;
    bool (*offered)(const struct vkmoe_context *ctx); /* NULL: by every device */
    enum vkmoe_status (*measure)(struct bench *b, const char *name, struct bench_result *r);
} ceilings[] = {
    {CEILING_FMA_F32, NULL, fma_f32},
    {CEILING_CM_F16, has_f16, matrices_f16},
    {CEILING_CM_BF16, has_bf16, matrices_bf16},
    {CEILING_COPY, NULL, copy},
    {"launch, dependent", NULL, launch_dependent},
    {"launch, independent", NULL, launch_independent},
};

enum vkmoe_status bench_ceilings(struct bench *b)
{
    enum vkmoe_status status = VKMOE_OK;
    for (size_t i = 0; i < sizeof ceilings / sizeof *ceilings && !status; i++) {
        const struct ceiling *c = &ceilings[i];
        struct bench_result r;
        if (c->offered && !c->offered(b->ctx))
            continue;
        if (!(status = c->measure(b, c->name, &r)))
            status = bench_report(b, &r);
    }
    return status;
}
